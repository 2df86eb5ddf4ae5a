"""Sets of pictures on disk: which there are, what is in them, deleting with a way back."""

import html
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from app.views import pictures
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.contract.names import safe_name
from trainer.pictures.captions import CAPTION_SUFFIXES, read_caption
from trainer.pictures.decode import PICTURE_SUFFIXES
from trainer.pictures.listing import list_files

SAMPLES = {"style": "Sample pictures: a drawing style", "subject": "Sample pictures: one subject"}
UPLOADABLE = [*sorted(PICTURE_SUFFIXES), *CAPTION_SUFFIXES, ".jsonl", ".zip"]
TRASH = ".trash"


def own(home: Path) -> list[Path]:
    """Return the user's sets, the one changed last first."""
    found = [path for path in (home / "datasets").iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def sample_folders() -> dict[str, Path]:
    """Return the sample sets that came with the program."""
    return {name: demo_folder() / name for name in SAMPLES if (demo_folder() / name).is_dir()}


def choices(home: Path) -> list[tuple[str, str]]:
    """Return (title, folder) of every set one can train on: own ones first, then the samples."""
    mine = [(path.name, str(path)) for path in own(home)]
    return mine + [(SAMPLES[name], str(path)) for name, path in sample_folders().items()]


def files(folder: Path) -> list[Path]:
    """Return the pictures of a set by their names, in natural order; whether they can be read is not looked at."""
    if not folder.is_dir():
        return []
    return [path for path in list_files(folder) if path.suffix.lower() in PICTURE_SUFFIXES]


def create(home: Path, name: str) -> Path:
    """Make an empty set; a number is added where the name is taken."""
    base = safe_name(name) if name.strip() else "my-pictures"
    for number in range(1, 1000):
        path = home / "datasets" / (base if number == 1 else f"{base}-{number}")
        if not path.exists():
            path.mkdir(parents=True)
            return path
    raise UserError(f"there are a thousand sets called '{base}'", "name of the set", "Give another name.")


def check(folder: Path) -> None:
    """See that a set has something to train on.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UserError(
            "there is no such folder", str(folder), "Choose one of your sets, or make one in the Dataset tab."
        )
    if not files(folder):
        raise UserError(
            "there is no picture in this set", folder.name, "Add ten to thirty pictures in the Dataset tab."
        )


def captions(found: Sequence[Path]) -> list[str]:
    """Read the captions of pictures; one that cannot be read counts as empty."""
    return [_caption(path) for path in found]


def _caption(path: Path) -> str:
    try:
        return read_caption(path)
    except OSError:
        return ""


def url(path: str) -> str:
    """Address of a picture in the cache, for HTML of our own."""
    return f"/gradio_api/file={path}"


def summary_html(home: Path, folder: str | None, shown: int = 6) -> str:
    """HTML: the first pictures of a set, and how many there are."""
    found = files(Path(folder)) if folder else []
    if not found:
        return '<div class="strip none">No pictures yet: make a set in the Dataset tab.</div>'
    copies = [copy for path in found[:shown] if (copy := pictures.copy(home, path))]
    images = "".join(f'<img src="{html.escape(url(copy))}" alt="">' for copy in copies)
    bare = sum(not text for text in captions(found))
    words = f"{len(found)} picture{'s' * (len(found) != 1)}" + (
        f", {bare} without a caption" if bare else ", all with captions"
    )
    return f'<div class="strip">{images}<span>{words}</span></div>'


def delete(folder: Path, picture: Path) -> None:
    """Move a picture and its caption to the set's trash."""
    place = folder / TRASH / str(time.time_ns())
    place.mkdir(parents=True)
    for path in (picture, *(picture.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)):
        if path.exists():
            shutil.move(path, place / path.name)


def deleted(folder: Path) -> list[Path]:
    """Return what lies in the trash, the last deleted first."""
    return sorted((folder / TRASH).glob("*"), key=lambda path: path.name, reverse=True)


def undelete(folder: Path) -> str:
    """Bring the last deleted picture back; return its name.

    Raises:
        UserError: nothing was deleted, or something else has its name now.
    """
    places = deleted(folder)
    if not places:
        raise UserError("nothing was deleted from this set", folder.name, "")
    inside = sorted(places[0].iterdir())
    taken = [path.name for path in inside if (folder / path.name).exists()]
    if taken:
        raise UserError(f"{taken[0]} is there already", folder.name, f"What was deleted stays in {places[0]}.")
    for path in inside:
        shutil.move(path, folder / path.name)
    places[0].rmdir()
    return next((path.name for path in inside if path.suffix.lower() in PICTURE_SUFFIXES), "")


def stage(uploads: Sequence[Path], place: Path) -> list[Path]:
    """Lay uploaded files into folders as they were before the upload, which drops their folders.

    A browser sends a folder's files one folder after the other, so a name that comes again begins the next folder:
    `1.png` stays beside its own `1.txt`, and `a/1.png` and `b/1.png` both survive. A zip is left where it is.

    Returns:
        What to import: the folders, and the zips.
    """
    number, taken = 0, set[str]()
    zips = [path for path in uploads if path.suffix.lower() == ".zip"]
    for path in (path for path in uploads if path not in zips):
        if path.name.casefold() in taken:
            number, taken = number + 1, set[str]()
        taken.add(path.name.casefold())
        target = place / f"{number:04}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return [*sorted(place.iterdir()), *zips]
