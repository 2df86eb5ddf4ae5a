"""What was drawn in Preview: pictures and grids of whoever looks, each with all that is needed to draw it again.

They lie under `<home>/previews/VIEWER/`: `ID.json` says what `ID-0.png`, `ID-1.png`, ... and `ID-sheet.png` are. The
newest are kept. A picture that is compared with (the base's) may belong to several.
"""

import json
import re
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app import owners
from app.views.pictures import EVERYBODY
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic

ROOM, NOBODY = "previews", "-nobody"
KEPT, MORE = 200, 20  # entries of a viewer; so many more before the oldest are deleted
YOUNG = 3600  # seconds that a file is left alone which no entry names yet: it is being drawn, or was a moment ago
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.png)?")


class Entry(NamedTuple):
    """Something that was drawn.

    Attributes:
        id: names it.
        picture: file name of what is shown of it.
        grid: whether it is a table.
        words: what it shows.
    """

    id: str
    picture: str
    grid: bool
    words: str


def folder(home: Path) -> Path:
    """Where the pictures of whoever looks go; it is there."""
    who = owners.viewer()
    found = home / ROOM / ((who.name or NOBODY) if who else EVERYBODY)
    found.mkdir(parents=True, exist_ok=True)
    return found


def address(name: str, side: str = "full") -> str:
    """Where the page gets a picture from."""
    return f"/{ROOM}/{name}/{side}"


def file(home: Path, name: str) -> Path | None:
    """A picture of whoever looks by its file name; None where there is none."""
    if not NAME.fullmatch(name) or not name.endswith(".png"):
        return None
    path = folder(home) / name
    return path if path.is_file() else None


def keep(home: Path, entry: str, facts: Mapping[str, Any]) -> None:
    """Write down what an entry is.

    Args:
        home: the data folder.
        entry: its id.
        facts: `picture`, the file without which there is nothing to show; `cover`, what is shown of it if that is
            another; `files`, all that belong to it; `words`, what it shows; `form` and `grid`, what draws it again.
    """
    place = folder(home)
    write_atomic(place / f"{entry}.json", json.dumps(facts))
    if sum(1 for _ in place.glob("*.json")) > KEPT + MORE:
        prune(home)


def recall(home: Path, entry: str) -> dict[str, Any]:
    """All that was written down of an entry.

    Raises:
        UserError: it is gone, or cannot be read.
    """
    try:
        found = json.loads((folder(home) / f"{entry}.json").read_text("utf-8")) if NAME.fullmatch(entry) else None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UserError("this picture is not there any more", "history", "The newest 200 are kept. Draw it again.")
    return found


def entries(home: Path) -> list[Entry]:
    """What was drawn, newest first; what was cancelled half way is left out."""
    place = folder(home)
    found = []
    for path in _known(place)[:KEPT]:
        try:
            facts = recall(home, path.stem)
        except UserError:
            continue
        picture = str(facts.get("picture", ""))
        if picture and (place / picture).is_file():
            cover = str(facts.get("cover", picture))
            found.append(Entry(path.stem, cover, bool(facts.get("grid")), str(facts.get("words", ""))))
    return found


def newest(home: Path) -> str:
    """The id of the newest entry, "" for none: tells whether there is something new."""
    return next((path.stem for path in _known(folder(home))), "")


def prune(home: Path, kept: int = KEPT) -> None:
    """Delete the oldest entries beyond `kept`, and pictures that no entry names."""
    place, now = folder(home), time.time()
    known = _known(place)
    for old in known[kept:]:
        old.unlink(missing_ok=True)
    named: set[str] = set()
    for path in known[:kept]:
        try:
            named.update(map(str, recall(home, path.stem).get("files", ())))
        except UserError:
            path.unlink(missing_ok=True)
    for picture in place.glob("*.png"):
        if picture.name not in named and now - _time(picture) > YOUNG:
            picture.unlink(missing_ok=True)


def pack(home: Path, entry: str, target: Path) -> None:
    """Write the pictures of a grid into a zip, with a text that says which is which.

    Raises:
        UserError: it is gone.
    """
    facts = recall(home, entry)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in facts.get("files", ()):
            if path := file(home, str(name)):
                archive.write(path, f"{entry}/{path.name}")
        if facts.get("grid"):
            archive.writestr(f"{entry}/grid.json", json.dumps(facts["grid"], indent=1))


def _known(place: Path) -> list[Path]:
    """What says what the entries are, newest first."""
    return sorted(place.glob("*.json"), key=_time, reverse=True)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
