"""Reading a folder of pictures with their captions."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

from trainer.contract.errors import UserError
from trainer.pictures.captions import read_caption
from trainer.pictures.decode import PICTURE_SUFFIXES, READABLE, decode_picture, read_bytes

# Pictures to a person, but not to us: named in the report instead of passed over.
FOREIGN_SUFFIXES = frozenset(
    (".psd", ".svg", ".jxl", ".jp2", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".tga", ".exr")
)


@dataclass(frozen=True)
class Record:
    """A picture that can be trained on.

    Attributes:
        path: the picture file.
        caption: the text beside it, "" where there is none.
        size: upright (width, height) in pixels.
        digest: SHA-256 of the file's bytes, 64 hex digits.
    """

    path: Path
    caption: str
    size: tuple[int, int]
    digest: str


@dataclass(frozen=True)
class Skipped:
    """A picture that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a folder holds, in natural order."""

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]


def scan(folder: Path) -> Scan:
    """Read every picture in `folder` and below it, in natural order ("2.png" before "10.png").

    Each picture is decoded once, so that a file cut off in the middle is known before training, not during it.
    Hidden files and `__MACOSX` are passed over; links to folders are not followed.

    Raises:
        UserError: the folder is missing, is a file, or holds no readable picture.
    """
    files = list_files(folder)
    wanted = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES | FOREIGN_SUFFIXES]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # Pillow lets go of the GIL
        found = list(pool.map(_examine, wanted))
    records = tuple(item for item in found if isinstance(item, Record))
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    if not records:
        raise UserError("There is no readable picture in this folder.", str(folder), _seen(files, skipped))
    return Scan(records, skipped)


def list_files(folder: Path) -> list[Path]:
    """Return all files in `folder` and below it in natural order, without hidden ones.

    Raises:
        UserError: `folder` is missing or not a folder.
    """
    if not folder.exists():
        raise UserError("There is no such folder.", str(folder), "Check the spelling, or choose another folder.")
    if not folder.is_dir():
        raise UserError("This is a file, not a folder.", str(folder), f"Give the folder it is in: {folder.parent}")
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if visible(name)]
        files += [Path(place, name) for name in names if visible(name)]
    return sorted((path for path in files if path.is_file()), key=lambda path: natural_key(path.relative_to(folder)))


def fingerprint(records: Sequence[Record]) -> str:
    """Return a SHA-256 (64 hex digits) over the digests and captions, in order; paths do not count."""
    content = json.dumps([(record.digest, record.caption) for record in records])
    return hashlib.sha256(content.encode()).hexdigest()


def visible(name: str) -> bool:
    """Return whether a file or folder name is neither hidden nor macOS's shadow folder in zips."""
    return not name.startswith(".") and name != "__MACOSX"


def natural_key(path: PurePath) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return a key that sorts paths as people count: folder by folder, numbers by value."""
    return tuple(_natural(part) for part in path.parts)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    pieces = (piece for piece in re.split(r"([0-9]+)", name) if piece)
    folded = tuple((0, int(piece), "") if piece[0] in "0123456789" else (1, 0, piece.casefold()) for piece in pieces)
    return (*folded, (2, 0, name))  # the name itself at last, so that "a" and "A" have one order


def _examine(path: Path) -> Record | Skipped:
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        return Skipped(path, f"{path.suffix} files are not supported; {READABLE}.")
    try:
        data = read_bytes(path)
        size = decode_picture(data, str(path)).size
        return Record(path, read_caption(path), size, hashlib.sha256(data).hexdigest())
    except UserError as error:
        return Skipped(path, f"{error.problem} {error.fix}")
    except OSError as error:
        return Skipped(path, f"Its caption could not be read ({error.strerror or error}).")


def _seen(files: Iterable[Path], skipped: Sequence[Skipped]) -> str:
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    if not counts:
        return f"The folder is empty. Put pictures into it; {READABLE}."
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))
    reasons = "".join(f"\n{item.path.name}: {item.reason}" for item in skipped[:5])
    return f"Seen: {listed}. {READABLE}.{reasons}"
