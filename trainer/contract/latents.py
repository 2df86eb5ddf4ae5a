"""Where latents and text embeddings are kept between runs: how much there is, and how it is thrown away.

Every entry can be made again at any time. A run that is not done has links of its own to what it uses, so nothing that
is cleared here is taken from it.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LIMIT = 20 * 2**30  # bytes; what was used longest ago goes first
DAY = 24 * 3600.0


class Kept(NamedTuple):
    """What a cache holds.

    Attributes:
        files: number of entries.
        bytes: of them.
        linked: bytes of them that stay on the disk when they are thrown away: runs that are not done use them.
    """

    files: int
    bytes: int
    linked: int = 0


def shelf_of(home: Path) -> Path:
    """The folder of a home's cache."""
    return home / ".cache" / "latents"


def measure(shelf: Path) -> Kept:
    """Count what is kept."""
    return _count(_entries(shelf))


def free(folder: Path) -> None:
    """Give up a run's own links, in the folder that holds them: it is done. What it says of its pictures stays."""
    for path in (*folder.glob("*.safetensors"), *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)


def prune(shelf: Path, limit: int = LIMIT) -> Kept:
    """Throw away what was used longest ago until at most `limit` bytes are kept; return what was thrown away.

    With it goes what processes left half written that were killed a day ago or earlier.
    """
    for path in shelf.glob("*/.*.tmp"):
        with suppress(FileNotFoundError):  # its writer gave it its name just now
            if path.stat().st_mtime < time.time() - DAY:
                path.unlink()
    entries = _entries(shelf)
    over, gone = sum(entry.size for entry in entries) - limit, list[_Entry]()
    for entry in entries:
        if over <= 0:
            break
        entry.path.unlink(missing_ok=True)
        gone.append(entry)
        over -= entry.size
    return _count(gone)


class _Entry(NamedTuple):
    used: float
    size: int
    path: Path
    linked: bool


def _count(entries: Sequence[_Entry]) -> Kept:
    sizes = [entry.size for entry in entries]
    return Kept(len(sizes), sum(sizes), sum(entry.size for entry in entries if entry.linked))


def _entries(shelf: Path) -> list[_Entry]:
    """Every entry, that used longest ago first."""
    found = []
    for path in shelf.glob("*/*.safetensors"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # another process threw it away
        found.append(_Entry(about.st_mtime, about.st_size, path, about.st_nlink > 1))
    return sorted(found)
