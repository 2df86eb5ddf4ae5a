"""Sets of pictures on disk: which there are, what is in them, and making one ready to be changed."""

import functools
import html
from collections.abc import Callable
from pathlib import Path

from app import owners
from app.views import pictures
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.contract.names import safe_name
from trainer.pictures.album import FILE, Album, create_album, is_own, locate, open_album, parse, read_folder
from trainer.pictures.captions import fold
from trainer.pictures.doctor import COMMON, is_common
from trainer.pictures.newcomers import make_for_import

WORDS = "words-of-a-set"  # events that keep and read trigger and class word are answered in their order
COPY = "sample-"  # before the name of a sample set that was copied among the user's own
SAMPLES = {"style": "Sample pictures: a drawing style", "subject": "Sample pictures: one subject"}


def own(home: Path) -> list[Path]:
    """Return the user's sets, the one changed last first."""
    found = [path for path in (home / "datasets").iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(filter(owners.visible, found), key=_changed, reverse=True)


def _changed(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, folder / FILE) if path.exists())


def sample_folders() -> dict[str, Path]:
    """Return the sample sets that came with the program."""
    return {name: demo_folder() / name for name in SAMPLES if (demo_folder() / name).is_dir()}


def choices(home: Path) -> list[tuple[str, str]]:
    """Return (title, folder) of every set one can train on: own ones first, then the samples."""
    mine = [(path.name, str(path)) for path in own(home)]
    return mine + [(SAMPLES[name], str(path)) for name, path in sample_folders().items()]


def album(folder: Path) -> Album:
    """Read a set; one that has a file of its own is parsed once for each version of it.

    Raises:
        UserError: there is no such folder, or something in it cannot be read.
    """
    owners.check(folder)
    try:
        if not is_own(folder):
            return read_folder(folder)
        facts = (folder / FILE).stat()
    except OSError as error:
        fix = "Check that the folder is there and that you may read it."
        raise UserError(f"The set could not be read ({error.strerror or error}).", str(folder), fix) from error
    return _parsed(folder / FILE, (facts.st_mtime_ns, facts.st_size, facts.st_ino))


@functools.lru_cache(maxsize=8)
def _parsed(file: Path, version: tuple[int, ...]) -> Album:
    return parse(file.read_bytes(), file)


def create(home: Path, name: str) -> Path:
    """Make an empty set; a number is added where the name is taken."""
    return _create(home, name, lambda path: not path.exists() and bool(create_album(path)))


def create_for_import(home: Path) -> Path:
    """Make a set that goes again if the import that it is for brings nothing."""
    return _create(home, "", make_for_import)


def _create(home: Path, name: str, make: Callable[[Path], bool]) -> Path:
    base = safe_name(name) if name.strip() else "my-pictures"
    for number in range(1, 1000):
        path = home / "datasets" / (base if number == 1 else f"{base}-{number}")
        if make(path):
            owners.sign(path)
            return path
    raise UserError(f"there are a thousand sets called '{base}'", "name of the set", "Give another name.")


def adopt(folder: Path) -> Album:
    """Make a plain folder of pictures a set of the user's own; its pictures stay where they lie.

    The ids stay the same. Caption files are read once and not written any more: captions are the set's from then on.

    Raises:
        UserError: the folder is missing, cannot be read, or cannot be written.
    """
    return open_album(folder) if is_own(folder) else create_album(folder, album(folder))


def editable(home: Path, folder: Path) -> None:
    """Make sure that a set may be changed: a plain folder among the user's sets is adopted.

    Raises:
        UserError: it is none of the user's sets.
    """
    check_own(home, folder)
    adopt(folder)


def check_own(home: Path, folder: Path) -> None:
    """See that a folder is where the user's sets are. Raises UserError where it is not."""
    owners.check(folder)
    if folder.parent != home / "datasets" or folder.name in ("", ".", ".."):
        fix = "Import its pictures into a set of your own."
        raise UserError("This set is not one of yours, so it is not changed.", str(folder), fix)


def check(folder: Path) -> None:
    """See that a set has something to train on.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    owners.check(folder)
    if not folder.is_dir():
        raise UserError(
            "there is no such folder", str(folder), "Choose one of your sets, or make one in the Dataset tab."
        )
    entries = album(folder).entries
    if not entries:
        raise UserError(
            "there is no picture in this set", folder.name, "Add ten to thirty pictures in the Dataset tab."
        )
    if all(entry.excluded for entry in entries):
        raise UserError("every picture of this set is left out", folder.name, "Take some in again in the Dataset tab.")


def captions(folder: Path) -> list[str]:
    """Return the first caption of each picture, "" where it has none; nothing where the set cannot be read."""
    return [next(iter(entry.captions), "") for entry in _or_empty(folder).entries]


def trigger(folder: Path) -> str:
    """Return the trigger word of a set, "" where it has none or cannot be read."""
    return _or_empty(folder).calls


def teaches(folder: str | Path | None) -> str:
    """Return what a sample set, or the user's copy of it, is there to teach: a name of a preset; "" for other sets."""
    name = Path(folder or "").name
    copied = next((key for key in SAMPLES if f"{name}-".startswith(f"{COPY}{key}-")), "")
    return copied or next((key for key, path in sample_folders().items() if Path(folder or "") == path), "")


def sample_copy(home: Path, key: str) -> Path:
    """Folder of the copy of a sample set among the sets of whoever looks."""
    who = owners.bounded()
    return home / "datasets" / (f"{COPY}{key}-{who.name}" if who else f"{COPY}{key}")


def trigger_note_html(trigger: str | None) -> str:
    """HTML: a warning about a trigger word that has a meaning already, "" where there is nothing to say."""
    word = fold(trigger or "")
    if not is_common(word):
        return ""
    said = f"“{word}” is a common word. {COMMON} Use a rare one, such as sks or ohwx."
    return f'<div class="warning" role="status">{html.escape(said)}</div>'


def _or_empty(folder: Path) -> Album:
    try:
        return album(folder)
    except UserError:  # what is wrong is said where the set is opened
        return Album()


def url(path: str) -> str:
    """Address of a picture in the cache, for HTML of our own."""
    return f"/gradio_api/file={path}"


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 picture", "2 pictures"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def guarded(show: Callable[..., str]) -> Callable[..., str]:
    """Let a piece of the page say what is wrong with a set, in its own place."""

    @functools.wraps(show)
    def wrapped(*args: object, **kwargs: object) -> str:
        try:
            return show(*args, **kwargs)
        except UserError as error:
            return f'<div class="strip none">{html.escape(error.problem)} {html.escape(error.fix)}</div>'

    return wrapped


@guarded
def summary_html(home: Path, folder: str | None, shown: int = 6) -> str:
    """HTML: the first pictures of a set, and how many there are."""
    entries = [entry for entry in album(Path(folder)).entries if not entry.excluded] if folder else []
    if not folder or not entries:
        return '<div class="strip none">No pictures yet: make a set in the Dataset tab.</div>'
    copies = [copy for entry in entries[:shown] if (copy := pictures.copy(home, locate(Path(folder), entry.file)))]
    images = "".join(f'<img src="{html.escape(url(copy))}" alt="">' for copy in copies)
    bare = sum(not entry.captions for entry in entries)
    words = f"{count(len(entries), 'picture')}, {f'{bare} without a caption' if bare else 'all with captions'}"
    return f'<div class="strip">{images}<span>{words}</span></div>'


def has_pictures(folder: str) -> bool:
    """Whether there is anything to show of a set."""
    return bool(folder and _or_empty(Path(folder)).entries)
