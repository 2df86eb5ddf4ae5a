"""Finding pictures and their captions in folders, in zips and among single files."""

import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trainer.contract.errors import UserError
from trainer.pictures.captions import CAPTION_SUFFIXES, decode_captions, fold
from trainer.pictures.decode import MAX_FILE_BYTES, PICTURE_SUFFIXES, READABLE, read_bytes
from trainer.pictures.folder import FOREIGN_SUFFIXES
from trainer.pictures.listing import list_files, natural_key, visible

MAX_ZIP_BYTES = 16 * 2**30  # unpacked; far above any data set, far below a zip bomb
MAX_TEXT_BYTES = 16 * 2**20
METADATA = "metadata.jsonl"  # the layout of Hugging Face's "imagefolder" data sets


@dataclass(frozen=True)
class Item:
    """A picture to import.

    Attributes:
        source: what to call it to a person.
        stem: its file name without folder and suffix.
        caption: a line for each caption, "" where there is none.
        read: returns the bytes of its file; raises UserError.
    """

    source: str
    stem: str
    caption: str
    read: Callable[[], bytes]


class Rejected(NamedTuple):
    """Something that was not imported, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class _Shelf:
    """Files that lie together: `read(name, limit)` returns a file's bytes or raises UserError."""

    label: str
    names: frozenset[PurePosixPath]
    read: Callable[[PurePosixPath, int], bytes]


@dataclass
class _Finds:
    items: list[Item]
    rejected: list[Rejected]
    notes: list[str]


def open_sources(
    sources: Sequence[Path], destination: Path, open_files: ExitStack
) -> tuple[list[Item], list[Rejected], list[str]]:
    """List the pictures in `sources`, in natural order within each.

    Args:
        sources: pictures, folders and zips that exist.
        destination: passed over where it lies inside a source.
        open_files: keeps zips open until the items are read.

    Returns:
        The pictures, what is rejected unread, and notes about captions that cannot be used.
    """
    finds = _Finds([], [], [])
    single: list[Path] = []
    for source in sources:
        suffix = source.suffix.lower()
        if source.is_dir():
            files = [path for path in list_files(source) if not path.resolve().is_relative_to(destination.resolve())]
            shelf = _folder_shelf(source, files)
            _gather(shelf, sorted(shelf.names, key=natural_key), finds)
        elif suffix == ".zip" or (suffix not in PICTURE_SUFFIXES and zipfile.is_zipfile(source)):
            _gather_zip(source, finds, open_files)
        elif suffix not in (*CAPTION_SUFFIXES, ".jsonl"):
            single.append(source)
    _gather_files(single, sources, finds)
    return finds.items, finds.rejected, finds.notes


def _folder_shelf(folder: Path, files: Iterable[Path]) -> _Shelf:
    names = frozenset(PurePosixPath(path.relative_to(folder).as_posix()) for path in files)

    return _Shelf(str(folder), names, lambda name, limit: read_bytes(folder / name, limit))


def _gather_files(pictures: Sequence[Path], sources: Sequence[Path], finds: _Finds) -> None:
    """Pictures given one by one, whatever their suffix, with the captions beside them or given along with them.

    A browser puts each uploaded file in a folder of its own, so there a caption belongs to the picture of its name.
    """
    along = {path.stem: path for path in sources if path.suffix.lower() in CAPTION_SUFFIXES}
    for folder in dict.fromkeys(path.parent for path in pictures):
        here = [path for path in pictures if path.parent == folder]
        texts = [path.with_suffix(suffix) for path in here for suffix in CAPTION_SUFFIXES]
        beside = [path for path in (*texts, folder / METADATA) if path.is_file()]
        shelf = _folder_shelf(folder, [*here, *beside])
        listed = _listed_captions(shelf, finds.notes)
        for path in here:
            caption = _caption(shelf, PurePosixPath(path.name), listed, finds.notes)
            if not caption and path.stem in along:
                text = along[path.stem]
                caption = _caption(_folder_shelf(text.parent, [text]), PurePosixPath(text.name), {}, finds.notes)
            finds.items.append(Item(str(path), path.stem, caption, partial(read_bytes, path)))


def _gather_zip(source: Path, finds: _Finds, open_files: ExitStack) -> None:
    try:
        archive = open_files.enter_context(zipfile.ZipFile(source))
    except (zipfile.BadZipFile, OSError) as error:
        finds.rejected.append(Rejected(str(source), f"The zip is damaged ({error}). Pack or download it again."))
        return
    # Old Windows tools part folders with "\\", against the specification (APPNOTE 4.4.17).
    entries = [info for info in archive.infolist() if not info.is_dir()]
    members = {PurePosixPath(info.filename.replace("\\", "/")): info for info in entries}
    left = MAX_ZIP_BYTES

    def read(name: PurePosixPath, limit: int) -> bytes:
        # Members are never unpacked by name, so "../../x" leads nowhere; and never more is read than `limit`,
        # because the size that a zip states can be a lie.
        nonlocal left
        allowed = min(limit, left)
        try:
            with archive.open(members[name]) as file:
                data = file.read(allowed + 1)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError) as error:
            problem = f"This part of the zip is damaged ({error})."
            raise UserError(problem, str(name), "Pack or download it again.") from error
        except RuntimeError as error:  # what zipfile raises where a password is needed
            raise UserError("The zip has a password.", str(name), "Unpack it and import the folder.") from error
        left -= len(data)
        if len(data) > allowed:
            raise UserError(f"It unpacks to more than {allowed // 2**20} MiB.", str(name), "Import it by itself.")
        return data

    names = frozenset(name for name in members if all(part == ".." or visible(part) for part in name.parts))
    shelf = _Shelf(str(source), names, read)
    _gather(shelf, sorted(shelf.names, key=natural_key), finds)


def _gather(shelf: _Shelf, names: Sequence[PurePosixPath], finds: _Finds) -> None:
    listed = _listed_captions(shelf, finds.notes)
    for name in names:
        suffix = name.suffix.lower()
        source = f"{shelf.label}/{name}"
        if suffix in PICTURE_SUFFIXES:
            caption = _caption(shelf, name, listed, finds.notes)
            finds.items.append(Item(source, name.stem, caption, partial(shelf.read, name, MAX_FILE_BYTES)))
        elif suffix in FOREIGN_SUFFIXES:
            finds.rejected.append(Rejected(source, f"{suffix} files are not supported; {READABLE}."))
        elif suffix == ".zip":
            finds.rejected.append(Rejected(source, "A zip inside is not opened. Give it by itself."))


def _caption(shelf: _Shelf, name: PurePosixPath, listed: dict[PurePosixPath, str], notes: list[str]) -> str:
    for suffix in CAPTION_SUFFIXES:
        beside = name.with_suffix(suffix)
        if beside in shelf.names:
            try:
                return "\n".join(decode_captions(shelf.read(beside, MAX_TEXT_BYTES)))
            except UserError as error:
                notes.append(f"{shelf.label}/{beside} was not used: {error.problem}")
    return listed.get(name, "")


def _listed_captions(shelf: _Shelf, notes: list[str]) -> dict[PurePosixPath, str]:
    """Read every `metadata.jsonl`: {"file_name": path below its folder, "text": caption} on each line."""
    captions: dict[PurePosixPath, str] = {}
    for name in sorted(name for name in shelf.names if name.name == METADATA):
        try:
            lines = shelf.read(name, MAX_TEXT_BYTES).decode("utf-8-sig", errors="replace").splitlines()
        except UserError as error:
            notes.append(f"{shelf.label}/{name} was not used: {error.problem}")
            continue
        for number, (file_name, text) in _entries(lines):
            if file_name is None:
                notes.append(f'{shelf.label}/{name}, line {number}: no {{"file_name": ..., "text": ...}} here.')
            else:
                captions[name.parent / file_name.replace("\\", "/")] = text
    return captions


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, tuple[str | None, str]]]:
    """Yield (line number, (file name or None where the line cannot be used, caption))."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            yield number, (None, "")
            continue
        entry = entry if isinstance(entry, dict) else {}
        file_name, text = entry.get("file_name"), entry.get("text", entry.get("caption"))
        if isinstance(file_name, str) and isinstance(text, str):
            yield number, (file_name, fold(text))
        else:
            yield number, (None, "")
