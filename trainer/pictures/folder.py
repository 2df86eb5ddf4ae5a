"""Reading a folder of pictures with their captions."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.errors import UserError
from trainer.pictures.album import is_own, locate, open_album
from trainer.pictures.decode import READABLE, UNSUPPORTED, decode_picture, read_bytes
from trainer.pictures.listing import foreign_files, list_files


@dataclass(frozen=True)
class Record:
    """A picture that can be trained on.

    Attributes:
        path: the picture file.
        caption: the first of its captions, "" where there is none.
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
    """Read every picture of a set, in natural order of their names ("2.png" before "10.png").

    A set is what `open_album` reads: one of the user's own, or a plain folder. Pictures that are excluded from a set
    are passed over. Each picture is decoded once, so that a file cut off in the middle is known before training, not
    during it.

    Raises:
        UserError: the folder is missing, is a file, or holds no readable picture.
    """
    entries = [entry for entry in open_album(folder).entries if not entry.excluded]
    foreign = [] if is_own(folder) else foreign_files(folder)
    paths = [locate(folder, entry.file) for entry in entries]
    captions = [next(iter(entry.captions), "") for entry in entries]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # Pillow lets go of the GIL
        found = list(pool.map(_examine, paths, captions))
    records = tuple(item for item in found if isinstance(item, Record))
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    skipped += tuple(Skipped(path, UNSUPPORTED.format(suffix=path.suffix)) for path in foreign)
    if not records:
        files = [] if is_own(folder) else list_files(folder)
        raise UserError("There is no readable picture in this set.", str(folder), _seen(files or paths, skipped))
    return Scan(records, skipped)


def fingerprint(records: Sequence[Record]) -> str:
    """Return a SHA-256 (64 hex digits) over the digests and captions, in order; paths do not count."""
    content = json.dumps([(record.digest, record.caption) for record in records])
    return hashlib.sha256(content.encode()).hexdigest()


def _examine(path: Path, caption: str) -> Record | Skipped:
    try:
        data = read_bytes(path)
        size = decode_picture(data, str(path)).size
        return Record(path, caption, size, hashlib.sha256(data).hexdigest())
    except UserError as error:
        return Skipped(path, f"{error.problem} {error.fix}")


def _seen(files: Iterable[Path], skipped: Sequence[Skipped]) -> str:
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    if not counts:
        return f"The folder is empty. Put pictures into it; {READABLE}."
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))
    reasons = "".join(f"\n{item.path.name}: {item.reason}" for item in skipped[:5])
    return f"Seen: {listed}. {READABLE}.{reasons}"
