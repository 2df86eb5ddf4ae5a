"""Finding pictures, their captions and their masks in folders, in zips and among single files."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trainer.contract.errors import UserError
from trainer.pictures.captions import CAPTION_SUFFIXES, decode_captions, encoding_of
from trainer.pictures.decode import BEGINNING, FOREIGN_SUFFIXES, PICTURE_SUFFIXES, UNSUPPORTED, looks_like_picture
from trainer.pictures.listing import is_there, natural_key, visible
from trainer.pictures.listings import LISTING_NAMES, LISTING_SUFFIXES, read_listing

MASK_ENDING = "-masklabel"  # a mask beside its picture: OneTrainer's convention
MAX_TEXT_BYTES = 16 * 2**20


class Place(NamedTuple):
    """Where a file's bytes are: a path, and the number of a member where that is a zip."""

    path: str
    member: int | None = None


class File(NamedTuple):
    """A file on a shelf: its name there, folders included, and where its bytes are."""

    name: PurePosixPath
    place: Place


@dataclass(frozen=True)
class Item:
    """A picture to import.

    Attributes:
        source: what to call it to a person, with where it comes from.
        name: its name with the folders below its source.
        folders: the same below the source's own folder, for layouts that say something by them.
        captions: one line each.
        place: where its bytes are.
        mask: where its mask is, None for none.
    """

    source: str
    name: str
    folders: PurePosixPath
    captions: tuple[str, ...]
    place: Place
    mask: Place | None


class Rejected(NamedTuple):
    """Something that was not imported, and why."""

    source: str
    reason: str


@dataclass
class Finds:
    """What lies in the sources.

    Attributes:
        items: the pictures, in natural order within each source.
        rejected: what is a picture to a person and is not read.
        notes: sentences about what was passed over.
        others: number of files that are no pictures, used (captions, masks) or not.
    """

    items: list[Item] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: int = 0


@dataclass(frozen=True)
class Shelf:
    """Files that lie together.

    Attributes:
        label: what to call it to a person.
        root: the name of its folder; empty where it has none.
        files: in the order in which they are wanted.
        read: returns up to so many bytes of a file; raises UserError where there are more.
        begin: returns the first bytes of a file, as far as they can be read.
    """

    label: str
    root: PurePosixPath
    files: Sequence[File]
    read: Callable[[Place, int], bytes]
    begin: Callable[[Place], bytes]


def gather(shelf: Shelf, finds: Finds) -> None:
    """Sort the files of a shelf into pictures and what belongs to them."""
    kinds = {file: _kind(shelf, file) for file in shelf.files}
    pictures = [file for file, kind in kinds.items() if kind == "picture"]
    stems = {str(file.name.with_suffix("")).casefold() for file in pictures}
    masks, texts = (_by_name(file for file, kind in kinds.items() if kind == wanted) for wanted in ("mask", "text"))
    used: dict[str, list[File]] = {}
    listed = _listed(shelf, [file for file, kind in kinds.items() if kind == "listing"], pictures, finds.notes, used)
    for file in pictures:
        captions = _beside(shelf, file, texts, finds.notes, used) or listed.get(file.name, ())
        mask = _look_up(masks, file.name.with_name(f"{file.name.stem}{MASK_ENDING}.png"))
        source = f"{shelf.label}/{file.name}"
        finds.items.append(
            Item(source, str(file.name), shelf.root / file.name, captions, file.place, mask.place if mask else None)
        )
    for file, kind in kinds.items():
        if reason := _REASONS.get(kind):
            finds.rejected.append(Rejected(f"{shelf.label}/{file.name}", reason.format(suffix=file.name.suffix)))
    helpers = [file for file, kind in kinds.items() if kind in ("mask", "text", "listing")]
    others = [file for file, kind in kinds.items() if kind == "other"]
    finds.others += len(helpers) + len(others)
    alone = [file for file in helpers if kinds[file] != "listing" and _owner(file) not in stems]
    for encoding, files in used.items():
        _mention(finds.notes, shelf, files, f"not in UTF-8 read as {encoding}")
    _mention(finds.notes, shelf, alone, "without a picture of that name passed over")
    _mention(finds.notes, shelf, others, "that are no pictures passed over")


_REASONS = {
    "foreign": UNSUPPORTED,
    "zip": "A zip inside is not opened. Give it by itself.",
}
_KINDS = {
    **dict.fromkeys(PICTURE_SUFFIXES, "picture"),
    **dict.fromkeys(FOREIGN_SUFFIXES, "foreign"),
    **dict.fromkeys(CAPTION_SUFFIXES, "text"),
    **dict.fromkeys(LISTING_SUFFIXES, "listing"),
    ".zip": "zip",
}


def _kind(shelf: Shelf, file: File) -> str:
    kind = _KINDS.get(file.name.suffix.lower())
    if kind == "picture" and file.name.stem.endswith(MASK_ENDING) and file.name.suffix.lower() == ".png":
        return "mask"
    return kind or ("picture" if looks_like_picture(shelf.begin(file.place)) else "other")


def _owner(file: File) -> str:
    """The picture that a mask or a text belongs to, by its name without the suffix."""
    return str(file.name.with_name(file.name.stem.removesuffix(MASK_ENDING) or file.name.name)).casefold()


def _by_name(files: Iterable[File]) -> Mapping[str, File]:
    """Files by their names, and by these in small letters for what only another system tells apart."""
    found = list(files)
    return {str(file.name).casefold(): file for file in found} | {str(file.name): file for file in found}


def _look_up(files: Mapping[str, File], name: PurePosixPath) -> File | None:
    return files.get(str(name)) or files.get(str(name).casefold())


def _read(shelf: Shelf, file: File, used: dict[str, list[File]]) -> bytes:
    """The bytes of a text file; `used` gets it where it is not UTF-8, by its encoding."""
    data = shelf.read(file.place, MAX_TEXT_BYTES)
    if (encoding := encoding_of(data)) != "utf-8-sig":
        used.setdefault(encoding, []).append(file)
    return data


def _beside(
    shelf: Shelf, picture: File, texts: Mapping[str, File], notes: list[str], used: dict[str, list[File]]
) -> tuple[str, ...]:
    for suffix in CAPTION_SUFFIXES:
        file = _look_up(texts, picture.name.with_suffix(suffix))
        if file is None:
            continue
        try:
            return decode_captions(_read(shelf, file, used))
        except UserError as error:
            notes.append(f"{shelf.label}/{file.name} was not used: {error.problem}")
    return ()


def _listed(
    shelf: Shelf, listings: Sequence[File], pictures: Sequence[File], notes: list[str], used: dict[str, list[File]]
) -> dict[PurePosixPath, tuple[str, ...]]:
    """The captions in every listing, for pictures in its folder and below, by their path there or their bare name."""
    exact = _by_name(pictures)
    bare: dict[str, list[File]] = {}
    for file in pictures:
        bare.setdefault(file.name.name, []).append(file)
    captions: dict[PurePosixPath, tuple[str, ...]] = {}
    for listing in listings:
        label = f"{shelf.label}/{listing.name}"
        try:
            lines = read_listing(listing.name.name, _read(shelf, listing, used))
        except UserError as error:
            notes.append(f"{label} was not used: {error.problem}")
            continue
        if not lines and listing.name.name.lower() in LISTING_NAMES:
            notes.append(f"{label} was not used: it has no columns `file` and `caption`.")
        absent = 0
        for line in lines:
            if line.file is None:
                notes.append(f"{label}, line {line.number}: no file name with a caption here.")
                continue
            path = PurePosixPath(line.file.replace("\\", "/"))
            picture = _look_up(exact, listing.name.parent / path) or _only(bare.get(path.name, ()), listing)
            if picture is None:
                absent += 1
            else:
                captions[picture.name] = tuple(dict.fromkeys((*captions.get(picture.name, ()), *line.captions)))
        if absent:
            notes.append(f"{label}: {absent} of its lines are about pictures that are not there.")
    return captions


def _only(pictures: Iterable[File], listing: File) -> File | None:
    """The one of these pictures that lies beside a listing or below; None where it is not one."""
    below = [file for file in pictures if file.name.is_relative_to(listing.name.parent)]
    return below[0] if len(below) == 1 else None


def _mention(notes: list[str], shelf: Shelf, files: Sequence[File], what: str) -> None:
    if files:
        names = ", ".join(str(file.name) for file in files[:5]) + (", ..." if len(files) > 5 else "")
        notes.append(f"{shelf.label}: {len(files)} file{'s' * (len(files) != 1)} {what}: {names}")


def folder_files(folder: Path, skip: Path, finds: Finds) -> list[File]:
    """The files in a folder and below it, in natural order; what cannot be imported is counted or rejected.

    Args:
        folder: where to look. Links to folders are not followed.
        skip: a folder that is passed over.
        finds: gets what is hidden, broken or locked.
    """
    found: list[File] = []
    skip = skip.resolve()

    def locked(error: OSError) -> None:
        finds.notes.append(f"{error.filename} could not be looked into ({error.strerror}).")

    for place, folders, names in os.walk(folder, onerror=locked):
        inside = [Path(place, name) for name in folders if visible(name)]
        links = [path for path in inside if os.path.islink(path)]  # noqa: PTH114 - the other raises
        finds.notes += [f"{path} is a link to a folder and was not followed; give that folder too." for path in links]
        folders[:] = [path.name for path in inside if path not in links and path.resolve() != skip]
        for path in (Path(place, name) for name in names):
            name = PurePosixPath(path.relative_to(folder).as_posix())
            if not visible(path.name):
                finds.others += 1
            elif is_there(path):
                found.append(File(name, Place(str(path.absolute()))))
            elif path.suffix.lower() in PICTURE_SUFFIXES:
                finds.rejected.append(Rejected(str(path), "It is no file, or a link that leads nowhere."))
            else:
                finds.others += 1
    return sorted(found, key=lambda file: natural_key(file.name))


def begin_file(place: Place) -> bytes:
    """The first bytes of a file, none where it cannot be read."""
    try:
        with Path(place.path).open("rb") as file:
            return file.read(BEGINNING)
    except OSError:
        return b""  # it is counted as no picture, and named
