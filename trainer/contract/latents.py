"""Where latents and text embeddings are kept between runs: how much there is, and how it is thrown away.

Every entry can be made again at any time. A run has links of its own to what it uses, so nothing that is cleared here
is taken from it.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LIMIT = 20 * 2**30  # bytes; what was used longest ago goes first
DAY = 24 * 3600.0


class Kept(NamedTuple):
    """What a cache holds: number of files, and their bytes."""

    files: int
    bytes: int


def shelf_of(home: Path) -> Path:
    """The folder of a home's cache."""
    return home / ".cache" / "latents"


def measure(shelf: Path) -> Kept:
    """Count what is kept."""
    sizes = [size for _, size, _ in _entries(shelf)]
    return Kept(len(sizes), sum(sizes))


def prune(shelf: Path, limit: int = LIMIT) -> Kept:
    """Throw away what was used longest ago until at most `limit` bytes are kept; return what was thrown away.

    With it goes what processes left half written that were killed a day ago or earlier.
    """
    for path in shelf.glob("*/.*.tmp"):
        with suppress(FileNotFoundError):  # its writer gave it its name just now
            if path.stat().st_mtime < time.time() - DAY:
                path.unlink()
    entries, files, freed = _entries(shelf), 0, 0
    over = sum(size for _, size, _ in entries) - limit
    for _, size, path in entries:
        if freed >= over:
            break
        path.unlink(missing_ok=True)
        files, freed = files + 1, freed + size
    return Kept(files, freed)


def _entries(shelf: Path) -> list[tuple[float, int, Path]]:
    """(time of last use, bytes, file) of every entry, oldest first."""
    found = []
    for path in shelf.glob("*/*.safetensors"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # another process threw it away
        found.append((about.st_mtime, about.st_size, path))
    return sorted(found)
