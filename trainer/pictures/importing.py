"""Copying pictures and captions from files, folders and zips into a data set folder."""

import hashlib
import io
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.pictures.captions import CAPTION_SUFFIXES
from trainer.pictures.decode import decode_picture
from trainer.pictures.shelves import Item, Rejected, open_sources

# Lossy in practice: as PNG a phone's HEIC would grow tenfold.
_LOSSY = frozenset(("JPEG", "MPO", "HEIF", "AVIF"))
_RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))))
_STEM_BYTES = 120  # file systems stop at 255 bytes, some encrypted ones at 143


class Duplicate(NamedTuple):
    """A picture that was there already, pixel for pixel."""

    source: str
    same_as: str


@dataclass(frozen=True)
class ImportReport:
    """What became of each picture; the three add up to the pictures seen.

    Attributes:
        accepted: file names in the destination, in the order of the sources.
        duplicates: pictures not stored because the same pixels were.
        rejected: what could not be read, with the reason.
        notes: captions that could not be used, as sentences.
    """

    accepted: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        """How many pictures were found in the sources."""
        return len(self.accepted) + len(self.duplicates) + len(self.rejected)


@dataclass
class _Stock:
    """What the destination holds: stems that are taken, and names by digest of pixels and of stored bytes."""

    stems: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)


def import_pictures(
    sources: Sequence[Path], destination: Path, on_progress: Callable[[int, int], None] | None = None
) -> ImportReport:
    """Copy the pictures of `sources` with their captions into one flat folder, beside what it holds.

    Sources are pictures, folders (with sub-folders) and zips. Captions come from a `.txt` or `.caption` file with the
    picture's name beside it, or from a `metadata.jsonl` (`file_name`, `text`) in a folder above it. Pictures are
    stored upright in sRGB and without metadata (a photo may tell where it was taken): JPEG, HEIC and AVIF as JPEG,
    the rest as PNG, transparent parts white. The sources are never changed. Each file appears whole, the caption
    before its picture, so the folder can be read or the import be stopped at any time.

    Args:
        sources: files and folders; all must exist.
        destination: the data set folder, made if missing.
        on_progress: called with (pictures done, pictures in all) after each picture.

    Raises:
        UserError: a source is missing or is the destination, or the destination cannot be written.
    """
    _check(sources, destination)
    stock = _take_stock(destination)
    accepted: list[str] = []
    duplicates: list[Duplicate] = []
    with ExitStack() as open_files:
        items, rejected, notes = open_sources(sources, destination, open_files)
        total = len(items) + len(rejected)
        done = len(rejected)
        for item in items:
            try:
                outcome = _store(item, destination, stock)
            except _Unreadable as error:
                rejected.append(Rejected(item.source, str(error)))
            else:
                if isinstance(outcome, Duplicate):
                    duplicates.append(outcome)
                else:
                    accepted.append(outcome)
            done += 1
            if on_progress:
                on_progress(done, total)
    return ImportReport(tuple(accepted), tuple(duplicates), tuple(rejected), tuple(notes))


class _Unreadable(Exception):
    """One picture cannot be read; the import goes on."""


def _check(sources: Sequence[Path], destination: Path) -> None:
    for source in sources:
        if not source.exists():
            raise UserError("There is no such file or folder.", str(source), "Check the spelling.")
        if source.resolve() == destination.resolve():
            fix = "Its pictures are in the data set already; give another folder."
            raise UserError("A data set cannot be imported into itself.", str(source), fix)
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Choose a folder that you may write in."
        raise UserError(f"The folder could not be made ({reason}).", str(destination), fix) from error


def _take_stock(destination: Path) -> _Stock:
    """Digest what is there. Encoding is deterministic, so a picture imported again gives the same stored bytes."""
    stock = _Stock()
    for path in sorted(destination.iterdir()):
        stock.stems.add(path.stem.casefold())
        if path.is_file() and path.suffix.lower() in {".png", ".jpg"}:
            with path.open("rb") as file:
                stock.names[hashlib.file_digest(file, "sha256").hexdigest()] = path.name
    return stock


def _store(item: Item, destination: Path, stock: _Stock) -> str | Duplicate:
    try:
        picture = decode_picture(item.read(), item.source)
    except UserError as error:
        raise _Unreadable(f"{error.problem} {error.fix}") from error
    pixels = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    if pixels in stock.names:
        return Duplicate(item.source, stock.names[pixels])
    suffix, data = _encode(picture)
    stored = hashlib.sha256(data).hexdigest()
    if stored in stock.names:
        return Duplicate(item.source, stock.names[stored])
    stem = _free_stem(item.stem, stock.stems)
    path = destination / (stem + suffix)
    if item.caption:
        write_atomic(destination / (stem + CAPTION_SUFFIXES[0]), f"{item.caption}\n".encode(errors="replace"))
    write_atomic(path, data)
    stock.stems.add(stem.casefold())
    stock.names |= {pixels: path.name, stored: path.name}
    return path.name


def _encode(picture: Image.Image) -> tuple[str, bytes]:
    file = io.BytesIO()
    if picture.format in _LOSSY:
        picture.save(file, "JPEG", quality=95, subsampling=0)  # full colour resolution: edges of drawings stay clean
        return ".jpg", file.getvalue()
    picture.save(file, "PNG", compress_level=3)  # a third of the default's time for a few per cent more bytes
    return ".png", file.getvalue()


def _free_stem(wanted: str, taken: set[str]) -> str:
    """Return a file name (without suffix) that every file system takes and nothing in the folder has."""
    whole = unicodedata.normalize("NFC", wanted).encode(errors="replace").decode()
    kept = "".join(" " if ord(letter) < 32 or letter in '<>:"/\\|?*\x7f' else letter for letter in whole)
    short = " ".join(kept.split()).encode()[:_STEM_BYTES].decode(errors="ignore")
    stem = short.strip(". ") or "picture"
    if stem.split(".")[0].casefold() in _RESERVED:
        stem = f"_{stem}"
    candidate, number = stem, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}", number + 1
    return candidate
