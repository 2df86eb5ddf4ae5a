"""A set of pictures on disk: what is in it, how it is changed, and the way back.

A set of the user's own is a folder with an `album.jsonl`: a line about the set, then a line for each picture. The
pictures lie beside it under names made of their content, or stay where the user has them. Every change writes the file
anew and keeps the version before it, so that any change can be taken back. A folder without that file is read as it is:
pictures with their captions beside them, in the layouts that other trainers use. Nothing is ever written into one.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.contract.config import Concept
from trainer.contract.errors import UserError
from trainer.contract.files import storage_error, write_atomic
from trainer.contract.names import identity
from trainer.pictures.captions import legible, printable
from trainer.pictures.listing import begin_file, list_files, natural_key
from trainer.pictures.shelves import File, Finds, Place, Shelf, gather

FILE = "album.jsonl"
PICTURES, MASKS, HISTORY = "pictures", "masks", ".history"
LOCK = ".lock"  # held by whoever changes the set
WORDS = ".captions"  # folder in a set for what models write, before it becomes captions
RAW = "bytes:"  # before the hexadecimal bytes of a file name that is not UTF-8, as old Linux disks have
STEPS_BACK = 30  # versions that are kept
WAIT = 20.0  # seconds for another program that writes the same set
REPEATS = re.compile(r"\s*0*([0-9]{1,3})_(.*)")  # kohya's folders: repeats, then "trigger class"


class Entry(BaseModel):
    """One picture of a set.

    Attributes:
        id: 32 hex digits: of its content where the set holds a copy, else of where it lies.
        file: the picture, relative to the set's folder with "/", or an absolute path where it stays outside.
        name: what the user called it, folders included. Text for people: nothing is ever opened by it.
        size: upright (width, height) in pixels; None where nobody has looked yet.
        captions: one or several, each on one line; none where it has none.
        concept: a key of `Album.concepts`, "" for the set itself.
        excluded: it stays in the set and is not trained on.
        focus: the point that a crop keeps nearest to its middle, 0 (left, top) to 1 (right, bottom).
        mask: like `file`: a grey picture of the same shape, white where the loss counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    file: str = Field(min_length=1)
    name: str
    size: tuple[int, int] | None = None
    captions: tuple[str, ...] = ()
    concept: str = ""
    excluded: bool = False
    focus: tuple[float, float] | None = None
    mask: str | None = None


class Album(BaseModel):
    """A set of pictures.

    Attributes:
        form: of the file.
        label: the change that made this version, for the undo button.
        trigger: word that calls what the set teaches.
        class_word: what it is ("dog", "drawing"), for pictures without a caption.
        background: sRGB colour behind transparent parts, "#rrggbb".
        concepts: by name; "" is never among them.
        entries: in natural order of their names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: int = 1
    label: str = ""
    trigger: str = ""
    class_word: str = ""
    background: str = Field("#ffffff", pattern=r"^#[0-9a-fA-F]{6}$")
    concepts: dict[str, Concept] = Field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def calls(self) -> str:
        """The word that calls what all pictures of the set teach, "" where there is none or they have several."""
        found = {one.trigger for one in map(self.concept_of, self.entries) if not one.regularisation}
        return found.pop() if len(found) == 1 else self.trigger

    def concept_of(self, entry: Entry) -> Concept:
        """The concept of a picture; the set's own trigger and class word where that has none."""
        own = self.concepts.get(entry.concept, Concept())
        if own.regularisation:
            return own
        return own.model_copy(
            update={"trigger": own.trigger or self.trigger, "class_word": own.class_word or self.class_word}
        )


def is_own(folder: Path) -> bool:
    """Whether a folder is a set that can be changed here."""
    return (folder / FILE).is_file()


def open_album(folder: Path) -> Album:
    """Read a set: its file, or a plain folder of pictures with captions.

    Raises:
        UserError: there is no such folder, or its file is damaged.
    """
    return parse((folder / FILE).read_bytes(), folder / FILE) if is_own(folder) else read_folder(folder)


def locate(folder: Path, file: str) -> Path:
    """The path of an entry's `file` or `mask`."""
    if file.startswith(RAW):
        file = os.fsdecode(bytes.fromhex(file.removeprefix(RAW)))
    return folder / file  # an absolute one stays what it is


def refer(path: PurePath) -> str:
    """What stands in an entry for a path: itself, or its bytes where they are no text."""
    text = path.as_posix()
    return text if legible(text) == text else RAW + os.fsencode(text).hex()


def create_album(folder: Path, album: Album | None = None) -> Album:
    """Make an empty set where there is none; return what is there.

    Raises:
        UserError: the folder cannot be made, or holds other things.
    """
    if not is_own(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not is_own(folder):  # of two who make it at the same time the second one finds what the first has made
                write_atomic(folder / FILE, render(album or Album()))
    return open_album(folder)


def change(folder: Path, label: str, how: Callable[[Album], Album]) -> Album:
    """Change a set, keeping the version before it.

    Args:
        folder: of a set of the user's own.
        label: what is done, in a few words for the undo button.
        how: returns the set as it is to be; nothing is written where it returns an equal one.

    Raises:
        UserError: it is a plain folder, another program has it locked, or it cannot be written.
    """
    with locked(folder):
        before = open_album(folder)
        after = how(before).model_copy(update={"label": label})
        if after.model_copy(update={"label": before.label}) == before:
            return before
        _push(folder, "undo", before)
        for path in _versions(folder, "redo"):
            path.unlink()
        write_atomic(folder / FILE, render(after))
        return after


def edit(folder: Path, label: str, chosen: Iterable[str], how: Callable[[Entry], Entry]) -> Album:
    """Change some pictures of a set, by their ids; see `change`."""
    wanted = set(chosen)

    def each(album: Album) -> Album:
        entries = tuple(how(entry) if entry.id in wanted else entry for entry in album.entries)
        return album.model_copy(update={"entries": entries})

    return change(folder, label, each)


def undo(folder: Path) -> str:
    """Take the last change back; return its label, "" where there is nothing to take back."""
    return _travel(folder, "undo", "redo")


def redo(folder: Path) -> str:
    """Make the change again that was taken back last; return its label, "" where there is none."""
    return _travel(folder, "redo", "undo")


def next_undo(folder: Path) -> str:
    """Label of the change that `undo` would take back, "" for none."""
    return open_album(folder).label if is_own(folder) and _versions(folder, "undo") else ""


def next_redo(folder: Path) -> str:
    """Label of the change that `redo` would make again, "" for none."""
    found = _versions(folder, "redo")
    return parse(found[-1].read_bytes(), found[-1]).label if found else ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this, no other program and no other thread changes a set; not to be taken twice.

    Raises:
        UserError: it is no set of the user's own, it may not be written, or another program keeps it too long.
    """
    if not is_own(folder):
        fix = "Import it as a set first: `atelier dataset import NAME FOLDER`, or the Dataset tab."
        raise UserError("This is a plain folder, in which nothing is ever changed.", str(folder), fix)
    with _alone(folder):
        yield


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK, timeout=WAIT)
    try:
        lock.acquire()
    except Timeout as error:
        fix = "Wait until the other one is done, then try again."
        raise UserError("Another program is writing this set.", str(folder), fix) from error
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def render(album: Album) -> str:
    """The text of a set's file."""
    head = album.model_dump_json(exclude={"entries"}, exclude_defaults=False)
    return "\n".join([head, *(entry.model_dump_json(exclude_defaults=True) for entry in album.entries), ""])


def parse(data: bytes, path: Path) -> Album:
    """Read the text of a set's file.

    Raises:
        UserError: it is damaged; it names the line.
    """
    lines = data.decode("utf-8", errors="replace").rstrip("\n").split("\n")  # other ends of lines stand inside texts
    read: list[BaseModel] = []
    try:
        for line in lines:
            read.append((Entry if read else Album).model_validate_json(line))
    except ValidationError as error:
        fix = f"Take the newest whole version from {path.parent / HISTORY}, or import the pictures again."
        raise UserError(f"Line {len(read) + 1} of the set's file is damaged.", str(path), fix) from error
    return read[0].model_copy(update={"entries": tuple(read[1:])})  # type: ignore[return-value]


def read_folder(folder: Path) -> Album:
    """Read a plain folder as an import does: pictures in it and below, captions, listings and masks beside them.

    Folders called `N_trigger`, as kohya's are, become concepts.

    Raises:
        UserError: the folder is missing, or a file, or a caption in it may not be read.
    """
    paths = list_files(folder)
    files = [File(PurePosixPath(path.relative_to(folder).as_posix()), Place(str(path))) for path in paths]
    shelf = Shelf(
        str(folder), PurePosixPath(), files,
        lambda place, _: Path(place.path).read_bytes(), lambda place: begin_file(Path(place.path)),
    )  # fmt: skip
    finds = Finds()
    try:
        gather(shelf, finds)
    except OSError as error:
        fix = "See that you may read it, or take it away."
        where = legible(str(error.filename))
        raise UserError(f"The caption could not be read ({error.strerror or error}).", where, fix) from error
    entries, concepts = [], dict[str, Concept]()
    for item in finds.items:
        place, name = PurePosixPath(item.name), printable(item.name)
        key, concept = concept_of_folder(PurePosixPath(name))
        if concept is not None:
            concepts[key] = concept
        mask = refer(Path(item.mask.path).relative_to(folder)) if item.mask else None
        entries.append(
            Entry(id=identity(os.fsencode(item.name)), file=refer(place), name=name, captions=item.captions,
                  concept=key, mask=mask)
        )  # fmt: skip
    entries.sort(key=lambda entry: natural_key(PurePosixPath(entry.name)))
    return Album(concepts=concepts, entries=tuple(entries))


def concept_of_folder(name: PurePosixPath) -> tuple[str, Concept | None]:
    """What kohya's layout says of a picture by the folder it is in.

    `10_sks dog/1.png` is seen ten times an epoch and trained as "sks dog". A picture in `reg/1_dog` is one of
    regularisation.

    Returns:
        The concept's name and the concept; ("", None) where no folder above it is written like that.
    """
    for place in name.parents:
        if found := REPEATS.fullmatch(place.name):
            regularisation = any(part.lower() in ("reg", "regularization", "regularisation") for part in name.parts)
            words = {"class_word" if regularisation else "trigger": found[2].strip()}
            key = f"{'reg/' if regularisation else ''}{place.name}"
            return key, Concept(**words, repeats=max(1, int(found[1])), regularisation=regularisation)
    return "", None


def _versions(folder: Path, stack: str) -> list[Path]:
    return sorted((folder / HISTORY).glob(f"{stack}-*.jsonl"))


def _push(folder: Path, stack: str, album: Album) -> None:
    (folder / HISTORY).mkdir(exist_ok=True)
    kept = _versions(folder, stack)
    number = int(kept[-1].stem.partition("-")[2]) + 1 if kept else 1
    write_atomic(folder / HISTORY / f"{stack}-{number:08}.jsonl", render(album))
    for path in kept[: max(0, len(kept) + 1 - STEPS_BACK)]:
        path.unlink()


def _travel(folder: Path, source: str, target: str) -> str:
    with locked(folder):
        found = _versions(folder, source)
        if not found:
            return ""
        here, there = open_album(folder), parse(found[-1].read_bytes(), found[-1])
        _push(folder, target, here)
        write_atomic(folder / FILE, render(there))
        found[-1].unlink()
        return here.label if source == "undo" else there.label
