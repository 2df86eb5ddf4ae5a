"""Finding pictures, their captions and their masks in folders, in zips and among single files."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trainer.contract.errors import UserError
from trainer.pictures.captions import CAPTION_SUFFIXES, MOST_LETTERS, decode_captions, encoding_of
from trainer.pictures.decode import FOREIGN_SUFFIXES, PICTURE_SUFFIXES, UNSUPPORTED, is_foreign, looks_like_picture
from trainer.pictures.listing import is_there, natural_key, visible
from trainer.pictures.listings import LISTING_NAMES, LISTING_SUFFIXES, read_listing

MASK_ENDING = "-masklabel"  # a mask beside its picture: OneTrainer's convention
NO_FILE = "It is no file, or a link that leads nowhere."
MAX_TEXT_BYTES = {"text": 2**20, "listing": 16 * 2**20}
MOST_CAPTIONS = 1_000  # of a picture


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
    stems = {_folded(file.name.with_suffix("")) for file in pictures}
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
    for what, files in used.items():
        _mention(finds.notes, shelf, files, what)
    _mention(finds.notes, shelf, alone, "without a picture of that name passed over")
    _mention(finds.notes, shelf, others, "passed over as no picture")


_REASONS = {
    "foreign": UNSUPPORTED,
    "zip": "A zip inside is not opened. Give it by itself.",
    "archive": "{suffix} archives are not opened, only zips are. Unpack it and give the folder.",
}
_KINDS = {
    **dict.fromkeys((".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"), "archive"),
    **dict.fromkeys(PICTURE_SUFFIXES, "picture"),
    **dict.fromkeys(FOREIGN_SUFFIXES, "foreign"),
    **dict.fromkeys(CAPTION_SUFFIXES, "text"),
    **dict.fromkeys(LISTING_SUFFIXES, "listing"),
    ".zip": "zip",
}


def _kind(shelf: Shelf, file: File) -> str:
    """What a file is: by its suffix, or a picture where that says otherwise and the file begins like one."""
    suffix = file.name.suffix.lower()
    kind = _KINDS.get(suffix, "other")
    if kind == "picture":
        return "mask" if file.name.stem.endswith(MASK_ENDING) and suffix == ".png" else kind
    beginning = shelf.begin(file.place)
    return "picture" if looks_like_picture(beginning) and not is_foreign(suffix, beginning) else kind


def _owner(file: File) -> str:
    """The picture that a mask or a text belongs to, by its name without the suffix."""
    return _folded(file.name.with_name(file.name.stem.removesuffix(MASK_ENDING) or file.name.name))


def _folded(name: PurePosixPath) -> str:
    """A name in small letters, its accents in one form: macOS takes letters and accents apart."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _by_name(files: Iterable[File]) -> Mapping[str, File]:
    """Files by their names, and by these folded for what only another system tells apart."""
    found = list(files)
    return {_folded(file.name): file for file in found} | {str(file.name): file for file in found}


def _look_up(files: Mapping[str, File], name: PurePosixPath) -> File | None:
    return files.get(str(name)) or files.get(_folded(name))


def _read(shelf: Shelf, file: File, kind: str, used: dict[str, list[File]]) -> bytes:
    """The bytes of a text file; `used` gets it where it is not UTF-8, by what is to be said of it."""
    data = shelf.read(file.place, MAX_TEXT_BYTES[kind])
    if (encoding := encoding_of(data)) != "utf-8-sig":
        used.setdefault(f"not in UTF-8 read as {encoding}", []).append(file)
    return data


def _cut(captions: Sequence[str], file: File, used: dict[str, list[File]]) -> tuple[str, ...]:
    """As much of a picture's captions as is kept; `used` gets their file where that is not all."""
    kept = tuple(caption[:MOST_LETTERS] for caption in captions[:MOST_CAPTIONS])
    if kept != tuple(captions):
        what = f"with more than {MOST_CAPTIONS} captions of {MOST_LETTERS} letters cut"
        files = used.setdefault(what, [])
        files += [file] if file not in files[-1:] else []
    return kept


def _beside(
    shelf: Shelf, picture: File, texts: Mapping[str, File], notes: list[str], used: dict[str, list[File]]
) -> tuple[str, ...]:
    for suffix in CAPTION_SUFFIXES:
        file = _look_up(texts, picture.name.with_suffix(suffix))
        if file is None:
            continue
        try:
            captions = decode_captions(_read(shelf, file, "text", used))
        except UserError as error:
            notes.append(f"{shelf.label}/{file.name} was not used: {error.problem}")
            continue
        if captions:
            return _cut(captions, file, used)
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
            lines = read_listing(listing.name.name, _read(shelf, listing, "listing", used))
        except UserError as error:
            notes.append(f"{label} was not used: {error.problem}")
            continue
        if not lines and listing.name.name.lower() in LISTING_NAMES:
            notes.append(f"{label} was not used: it has no columns `file` and `caption`.")
        absent, unclear = 0, list[int]()
        for line in lines:
            if line.file is None:
                unclear.append(line.number)
                continue
            path = PurePosixPath(line.file.replace("\\", "/"))
            picture = _look_up(exact, listing.name.parent / path) or _only(bare.get(path.name, ()), listing)
            if picture is None:
                absent += 1
            else:
                known = captions.get(picture.name, ())
                captions[picture.name] = tuple(dict.fromkeys((*known, *_cut(line.captions, listing, used))))
        if unclear:
            places = ", ".join(map(str, unclear[:5])) + (", ..." if len(unclear) > 5 else "")
            notes.append(f"{label}, line {places}: no file name with a caption here.")
        if absent:
            notes.append(f"{label}: {absent} of its lines are about pictures that are not there.")
    return captions


def _only(pictures: Iterable[File], listing: File) -> File | None:
    """The one of these pictures that lies beside a listing or below; None where it is not one."""
    below = (file for file in pictures if file.name.is_relative_to(listing.name.parent))
    found = list(islice(below, 2))
    return found[0] if len(found) == 1 else None


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
                finds.rejected.append(Rejected(str(path), NO_FILE))
            else:
                finds.others += 1
    return sorted(found, key=lambda file: natural_key(file.name))
