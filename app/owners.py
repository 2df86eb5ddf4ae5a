"""Whose things are whose. A set, a run and a library file have an owner: a small file beside or in them says the name.

Whoever looks is known by a context variable: the page sets it for each request and event. Where nobody is set (the
command line, the supervisor, a page without a login) everything is seen, as on a machine of one's own.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.home import demo_folder

FILE = ".owner"
PASSING = (".cache", "page")  # what Gradio keeps while the server runs: files that were sent, each in a folder
PICTURES = (*PASSING, "pictures")  # small copies for the page, in a folder for each viewer
OWNED = {
    ("datasets",): 2,
    ("runs",): 2,
    ("library",): 2,
    (".trash", "runs"): 3,
    (".trash", "library"): 3,
    PASSING: 3,
}  # rooms -> where things lie


@dataclass(frozen=True)
class Viewer:
    """Who looks.

    Attributes:
        name: of the user; "" for nobody, who sees nothing that is anybody's.
        admin: sees and does all.
        home: the data folder.
        shared: files and folders elsewhere that everybody may use: base models.
    """

    name: str
    admin: bool
    home: Path
    shared: tuple[str, ...] = ()


PLACE = re.compile(r"[/~\\]|[A-Za-z]:[\\/]|file:|.*\0|(.*[/\\])?\.\.([/\\]|$)", re.IGNORECASE | re.DOTALL)

_viewer: ContextVar[Viewer | None] = ContextVar("viewer", default=None)


def viewer() -> Viewer | None:
    """Who looks; None where there is no login."""
    return _viewer.get()


@contextmanager
def seen_by(who: Viewer | None) -> Iterator[None]:
    """Let `who` be the one who looks while the block runs."""
    before = _viewer.set(who)
    try:
        yield
    finally:
        _viewer.reset(before)


def bounded() -> Viewer | None:
    """Who looks, if it is somebody with bounds; None for an admin and where there is no login."""
    who = viewer()
    return who if who and not who.admin else None


def check_keeper(where: str) -> None:
    """See that whoever looks keeps this machine: an admin, or anybody where there is no login.

    Raises:
        UserError: they do not.
    """
    if bounded() is not None:
        raise UserError("only an admin may do this", where, "Ask whoever runs this machine.")


def sign(thing: Path) -> None:
    """Write down that a folder or file belongs to whoever looks."""
    if (who := viewer()) and who.name:
        write_atomic(_file(thing), who.name)


def owner(thing: Path) -> str:
    """Name of the owner of a folder or file, "" where it has none: then it is the machine's."""
    try:
        return _file(thing).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _file(thing: Path) -> Path:
    return thing / FILE if thing.is_dir() else thing.with_name(f".{thing.name}{FILE}")


def visible(thing: Path) -> bool:
    """Whether whoever looks may see a set, a run or a library file."""
    who = bounded()
    return who is None or (bool(who.name) and owner(thing) == who.name)


def check(place: Path | str) -> None:
    """See that whoever looks may have to do with a place: it is theirs, or came with the program.

    A user who is no admin has to do with nothing else on this machine, wherever it is named.

    Raises:
        UserError: it is not. The same words for what is not there: nobody learns what others have.
    """
    who = bounded()
    if who is None:
        return
    fix = "Choose one of your own, or ask whoever runs this machine."
    refusal = UserError("There is no such thing among yours.", str(place)[:200], fix)
    try:
        path, home = Path(place).expanduser().resolve(), who.home.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, a circle of links, ~nobody
        raise refusal from error
    if any(path.is_relative_to(one.expanduser().resolve()) for one in (demo_folder(), *map(Path, who.shared))):
        return
    parts = path.relative_to(home).parts if path.is_relative_to(home) else ()
    own_pictures = (*PICTURES, who.name)
    if not (parts[:4] == own_pictures if parts[:3] == PICTURES else _among(home, parts)):
        raise refusal


def _among(home: Path, parts: tuple[str, ...]) -> bool:
    """Whether a place in a home is in, or is, a thing that may be seen."""
    depth = next((depth for room, depth in OWNED.items() if parts[: len(room)] == room), 0)
    return 0 < depth <= len(parts) and visible(home.joinpath(*parts[:depth]))


def admit(value: Any) -> None:
    """See that no text in what somebody sends names a place that is not theirs.

    A text is a place where it looks like one, or is there as seen from the folder that the server was started in.

    Raises:
        UserError: one does.
    """
    if bounded() is None:
        return
    if isinstance(value, str):
        if PLACE.match(value) or (("/" in value or "\\" in value) and _is_there(value)):
            check(value)
    elif isinstance(value, Path):
        check(value)
    elif isinstance(value, Mapping):
        admit(list(value.values()))
    elif isinstance(value, list | tuple | set):
        for one in value:
            admit(one)


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False  # too long, or no name at all
