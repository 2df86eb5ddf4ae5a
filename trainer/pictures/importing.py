"""Pictures and captions from files, folders and zips into a set."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import psutil
from pydantic import ValidationError

from trainer.contract.config import Concept
from trainer.contract.errors import UserError
from trainer.contract.names import identity
from trainer.pictures.album import (
    MASKS,
    PICTURES,
    Album,
    Entry,
    change,
    concept_of_folder,
    create_album,
    is_own,
    locate,
    read_folder,
)
from trainer.pictures.captions import legible, printable
from trainer.pictures.decode import read_bytes
from trainer.pictures.listing import natural_key
from trainer.pictures.newcomers import at_work, make_for_import
from trainer.pictures.sandbox import work
from trainer.pictures.shelves import Finds, Item, Rejected
from trainer.pictures.sources import find_pictures, is_zip
from trainer.pictures.storing import Job

WORKER = "trainer.pictures.storing"


@dataclass(frozen=True)
class ImportOptions:
    """How pictures are taken into a set.

    Attributes:
        reference: pictures stay where they are, and the set says where that is; only masks beside them are stored.
        background: sRGB colour behind transparent parts, "#rrggbb"; a set that has pictures keeps its own for those
            that stay outside it.
        concept: name of the concept that they go to; "" leaves it to kohya's `N_trigger` folders.
    """

    reference: bool = False
    background: str = "#ffffff"
    concept: str = ""


class Duplicate(NamedTuple):
    """A picture that was there already."""

    source: str
    same_as: str


@dataclass(frozen=True)
class ImportReport:
    """What became of each picture; accepted, duplicates and rejected add up to the pictures seen.

    Attributes:
        accepted: the user's names of the new pictures, in the order of the sources.
        duplicates: pictures not taken because the same is there already.
        rejected: what could not be read, with the reason.
        notes: sentences about captions, masks and other files that could not be used.
        ids: of the new pictures, beside `accepted`.
        others: number of files that are no pictures: captions and masks, used or not, and what was passed over.
    """

    accepted: tuple[str, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
    ids: tuple[str, ...] = ()
    others: int = 0

    @property
    def seen(self) -> int:
        """Number of pictures found in the sources, readable or not."""
        return len(self.accepted) + len(self.duplicates) + len(self.rejected)


class _Arrival(NamedTuple):
    item: Item
    entry: Entry


def import_pictures(
    sources: Sequence[Path],
    folder: Path,
    *,
    options: ImportOptions = ImportOptions(),
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Take the pictures of `sources` with their captions and masks into a set, beside what it holds.

    Sources are pictures, folders (with sub-folders) and zips. Captions come from a `.txt` or `.caption` file with the
    picture's name beside it, else from a listing (see `read_listing`) in a folder above it; masks from a
    `-masklabel.png` beside it, else from its own transparency; concepts from kohya's folders. Copies are upright, in
    sRGB and without metadata (a photo may tell where it was taken): JPEG, HEIC and AVIF as JPEG, the rest as PNG. The
    sources are never changed.

    Files are read by processes of their own that may crash. Everything new appears at once, at the end: an import that
    was killed leaves copies that nobody sees, which the next one finds and uses. A new set of which nothing came is
    taken away again.

    Args:
        sources: files and folders; all must exist.
        folder: the set, made if missing. A plain folder becomes a set in which its pictures stay where they are.
        options: how they are taken.
        on_progress: called with (pictures done, pictures in all) after each picture.

    Raises:
        UserError: a source is missing, is the set itself, or cannot be referred to; or the set cannot be written.
    """
    _check(sources, folder, options)
    finds = find_pictures(sources, folder)
    if options.reference:
        _turn_away_nameless(finds)
    accepted, duplicates = _fill(finds, folder, options, on_progress) if finds.items else ([], [])
    return ImportReport(
        accepted=tuple(entry.name for entry in accepted),
        duplicates=tuple(Duplicate(*map(printable, one)) for one in duplicates),
        rejected=tuple(Rejected(*map(printable, one)) for one in finds.rejected),
        notes=tuple(map(printable, finds.notes)),
        ids=tuple(entry.id for entry in accepted),
        others=finds.others,
    )


def _fill(
    finds: Finds, folder: Path, options: ImportOptions, on_progress: Callable[[int, int], None] | None
) -> tuple[list[Entry], list[Duplicate]]:
    """Take in what was found; a set that was made for it goes again where nothing came of it."""
    with at_work(folder, lambda: _prepare(folder, options)):
        try:
            arrivals = _read(finds, folder, options, on_progress)
            return _take_in(folder, arrivals, options, finds.notes) if arrivals else ([], [])
        finally:
            _sweep(folder)


def _read(
    finds: Finds, folder: Path, options: ImportOptions, on_progress: Callable[[int, int], None] | None
) -> list[_Arrival]:
    """Have every picture read and stored; those that cannot be join the rejected."""
    jobs = [_job(item, folder, options) for item in finds.items]
    total, done = len(jobs) + len(finds.rejected), len(finds.rejected)
    arrivals: list[_Arrival] = []
    told: dict[str, list[str]] = {}
    with closing(work(WORKER, jobs)) as answers:
        for item, answer in zip(finds.items, answers, strict=True):
            done += 1
            if "reason" in answer:
                finds.rejected.append(Rejected(item.source, answer["reason"]))
            else:
                arrivals.append(_Arrival(item, _entry(item, answer)))
                for note in answer["notes"]:
                    told.setdefault(note, []).append(item.source)
            if on_progress:
                on_progress(done, total)
    for note, of in told.items():
        others = f" and {len(of) - 3} other pictures" if len(of) > 3 else ""
        finds.notes.append(f"{', '.join(of[:3])}{others}: {note}")
    return arrivals


def _check(sources: Sequence[Path], folder: Path, options: ImportOptions) -> None:
    for source in sources:
        if not _exists(source):
            raise UserError("There is no such file or folder.", str(source), "Check the spelling.")
        if source.resolve() == folder.resolve():
            fix = "Its pictures are in the set already; give another folder."
            raise UserError("A set cannot be imported into itself.", str(source), fix)
        if options.reference and is_zip(source):
            fix = "Unpack it and give the folder, or let its pictures be copied."
            raise UserError("Pictures in a zip cannot stay where they are.", str(source), fix)
    try:
        Album(background=options.background)
    except ValidationError as error:
        raise UserError(f"{options.background!r} is no colour.", "background", "Write it as #rrggbb.") from error


def _exists(source: Path) -> bool:
    try:
        return source.exists()
    except OSError as error:  # a folder above it is locked, or it is no path at all
        reason = error.strerror or str(error)
        fix = "Check the spelling, and that you may read it."
        raise UserError(f"It cannot be looked at ({reason}).", str(source), fix) from error


def _prepare(folder: Path, options: ImportOptions) -> None:
    """Make the set where there is none."""
    try:
        make_for_import(folder)
        there = read_folder(folder) if folder.is_dir() and not is_own(folder) else Album()
        known = {identity(_content(folder, entry)): entry for entry in there.entries}
        ids = {entry.file: key for key, entry in known.items()}  # of files that are equal, one gets the content's
        kept = tuple(entry.model_copy(update={"id": ids.get(entry.file, entry.id)}) for entry in there.entries)
        create_album(folder, there.model_copy(update={"background": options.background, "entries": kept}))
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Choose a folder that you may write in."
        raise UserError(f"The folder could not be made ({reason}).", str(folder), fix) from error
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Clear away what was left half written by workers that are no more."""
    for room in (PICTURES, MASKS):
        for path in (folder / room).glob("*/.*.tmp"):
            writer = path.name.split(".")[-2]
            if not (writer.isdecimal() and psutil.pid_exists(int(writer))):
                path.unlink(missing_ok=True)


def _content(folder: Path, entry: Entry) -> str | bytes:
    try:
        return read_bytes(locate(folder, entry.file))
    except UserError:
        return entry.name  # it cannot be read, which the doctor says; its name tells it from the others


def _turn_away_nameless(finds: Finds) -> None:
    """Reject pictures whose paths no text file can hold."""
    nameless = [item for item in finds.items if legible(item.place.path) != item.place.path]
    finds.items = [item for item in finds.items if legible(item.place.path) == item.place.path]
    reason = "Its name is no valid text, so no set can refer to it. Rename it, or let it be copied."
    finds.rejected += [Rejected(item.source, reason) for item in nameless]


def _job(item: Item, folder: Path, options: ImportOptions) -> dict[str, Any]:
    job = Job(
        place=item.place, mask=item.mask, name=item.source, folder=str(folder.absolute()),
        background=options.background, copy=not options.reference,
    )  # fmt: skip
    return dict(job)


def _entry(item: Item, answer: dict[str, Any]) -> Entry:
    outside = str(Path(item.place.path).absolute())
    return Entry(
        id=answer.get("id") or identity(str(Path(item.place.path).resolve())),  # however the path is spelled
        file=answer.get("file") or outside,
        name=printable(item.name),
        size=answer["size"],
        captions=item.captions,
        mask=answer["mask"],
    )


def _take_in(
    folder: Path, arrivals: Sequence[_Arrival], options: ImportOptions, notes: list[str]
) -> tuple[list[Entry], list[Duplicate]]:
    """Put what arrived into the set, in one change; returns the new pictures and those that were there."""
    accepted: list[Entry] = []
    duplicates: list[Duplicate] = []

    def take_in(album: Album) -> Album:
        entries = {entry.id: entry for entry in album.entries}
        known = {(entry.file, entry.mask): entry.id for entry in album.entries}  # whatever the mask came from
        concepts, met = dict(album.concepts), Counter[str]()
        for item, new in arrivals:
            key, concept = _concept(item, options)
            arrived = new.model_copy(update={"concept": key})
            there = entries.get(arrived.id) or entries.get(known.get((arrived.file, arrived.mask), ""))
            if there is not None:
                duplicates.append(Duplicate(item.source, there.name))
                entries[there.id] = merged = _merge(there, arrived, met)
                known[merged.file, merged.mask] = merged.id
                continue
            if concept is not None and key not in concepts:
                concepts[key] = concept
                if concept.repeats > 1:
                    notes.append(f"{key}: a concept whose pictures are seen {concept.repeats} times an epoch.")
            entries[arrived.id] = arrived
            known[arrived.file, arrived.mask] = arrived.id
            accepted.append(arrived)
        notes.extend(sentence.format(met[kind]) for kind, sentence in _MET.items() if met[kind])
        ordered = sorted(entries.values(), key=lambda entry: natural_key(PurePosixPath(entry.name)))
        background = album.background if album.entries else options.background
        return album.model_copy(
            update={"entries": tuple(ordered), "concepts": concepts, "background": background.lower()}
        )

    change(folder, f"Import of {len(arrivals)} picture{'s' * (len(arrivals) != 1)}", take_in)
    return accepted, duplicates


_MET = {
    "new captions": "{} pictures that were there without a caption got one.",
    "new mask": "{} pictures that were there without a mask got one.",
    "captions": "{} duplicates had other captions, which were not taken.",
    "mask": "{} duplicates had another mask, which was not taken.",
    "concept": "{} duplicates were of another concept, to which they were not moved.",
}


def _merge(there: Entry, arrived: Entry, met: Counter[str]) -> Entry:
    """What is there, with captions and a mask that it lacked; `met` counts what was taken and what was not."""
    taken: dict[str, Any] = {}
    for kind in ("captions", "mask"):
        old, new = getattr(there, kind), getattr(arrived, kind)
        if new and not old:
            taken[kind] = new
            met[f"new {kind}"] += 1
        elif new and new != old:
            met[kind] += 1
    met["concept"] += arrived.concept not in ("", there.concept)
    return there.model_copy(update=taken)


def _concept(item: Item, options: ImportOptions) -> tuple[str, Concept | None]:
    return (options.concept, Concept()) if options.concept else concept_of_folder(item.folders)
