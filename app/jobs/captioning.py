"""Captions by a model for a set, seen from the page: a process of its own, which outlives page and server.

It is `python -P -m trainer caption`; no model is loaded here. What it was asked and what it says are files of the set,
in `.captions/page/`, so that any page that is opened or loaded again can tell how far it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs import beside
from app.jobs.beside import State
from trainer.contract.errors import UserError
from trainer.contract.requests import CaptionRequest, Progress, parse
from trainer.pictures.album import WORDS


@dataclass(frozen=True)
class Captioning:
    """The last captioning of a set that a page began.

    Attributes:
        state: what became of it.
        request: what was asked.
        progress: how far it came; None where it did not begin or has its answer.
        answer: what came of it, once it is done: see `trainer.tools.captioning.Captioned`.
        error: why it failed.
        age: seconds since it last said something.
    """

    state: State = State.NONE
    request: CaptionRequest | None = None
    progress: Progress | None = None
    answer: dict[str, Any] | None = None
    error: UserError | None = None
    age: float = 0.0


def start(folder: Path, request: CaptionRequest) -> bool:
    """Begin, unless a page has it going on for this set already; returns whether it was begun.

    Args:
        folder: of a set of the user's own.
        request: what is asked.

    Raises:
        UserError: the set's folder cannot be written.
    """
    place = _place(folder)
    with beside.alone(place):
        if look(folder).state is State.RUNNING:
            return False
        beside.begin(place, "caption", request.model_dump_json())
    return True


def resume(folder: Path, **changes: Any) -> bool:
    """Begin what was asked last once more: it goes on from what is kept; `changes` replace parts of the request.

    Raises:
        UserError: nothing was asked before, or it cannot be read.
    """
    before = look(folder).request
    if before is None:
        raise UserError("nothing was begun for this set", folder.name, "Choose a model and begin.")
    return start(folder, before.model_copy(update={"known_only": False, **changes}))


def stop(folder: Path) -> None:
    """End it. What the model has written is kept."""
    place = _place(folder)
    with beside.alone(place):
        beside.end(place)


def look(folder: Path) -> Captioning:
    """Tell how far it is."""
    place = _place(folder)
    alive = beside.alive(place)
    try:
        request = parse(CaptionRequest, (place / beside.REQUEST).read_text("utf-8"))
    except (OSError, UserError):
        return Captioning()  # never begun, or by another version: then nothing can go on from it
    said, age = beside.last(place)
    state = beside.state(place, alive, said)
    error = beside.cause(place, "the model's process") if state is State.LOST else None
    if said.get("kind") == "progress":
        return Captioning(state, request, Progress.model_validate(said), age=age, error=error)
    if state is State.FAILED:
        return Captioning(state, request, error=UserError(**said))
    return Captioning(state, request, answer=said or None, error=error)


def running(home: Path) -> Path | None:
    """Folder of a set that is being captioned, if there is one."""
    found = (home / "datasets").glob(f"*/{WORDS}/page/{beside.PROCESS}")
    return next((path.parents[2] for path in found if look(path.parents[2]).state is State.RUNNING), None)


def _place(folder: Path) -> Path:
    return folder / WORDS / "page"
