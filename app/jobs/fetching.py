"""A base model fetched from the Hub, seen from the page: a process of its own, `python -P -m trainer fetch`."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.jobs import beside
from app.jobs.beside import State
from trainer.contract.errors import UserError
from trainer.contract.requests import FetchRequest, Progress

SHELF = Path(".cache") / "fetch"  # below the data folder


@dataclass(frozen=True)
class Fetching:
    """How far it is.

    Attributes:
        state: what became of it.
        progress: in bytes; None before the Hub has answered.
        answer: what came of it, see `trainer.tools.downloading.fetch_base`.
        error: why it failed, or ended.
    """

    state: State = State.NONE
    progress: Progress | None = None
    answer: dict[str, Any] | None = None
    error: UserError | None = None


def start(home: Path, base: str) -> None:
    """Begin, or go on where an earlier one ended; nothing where it is going on."""
    place = _place(home, base)
    with beside.alone(place):
        if look(home, base).state is not State.RUNNING:
            beside.begin(place, "fetch", FetchRequest(base=base).model_dump_json())


def stop(home: Path, base: str) -> None:
    """End it. What came is kept."""
    place = _place(home, base)
    with beside.alone(place):
        beside.end(place)


def look(home: Path, base: str) -> Fetching:
    """Tell how far it is."""
    place = _place(home, base)
    alive = beside.alive(place)
    if not (place / beside.PROCESS).exists():
        return Fetching()
    said, _ = beside.last(place)
    state = beside.state(place, alive, said)
    if state is State.FAILED:
        return Fetching(state, error=UserError(**said))
    if state is State.DONE:
        return Fetching(state, answer=said)
    progress = Progress.model_validate(said) if said else None
    return Fetching(state, progress, error=beside.cause(place, "the download") if state is State.LOST else None)


def _place(home: Path, base: str) -> Path:
    return home / SHELF / sha256(base.encode()).hexdigest()[:16]
