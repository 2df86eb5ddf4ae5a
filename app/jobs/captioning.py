"""Captions by a model for a set, seen from the page: a process of its own, which outlives page and server.

It is `python -P -m trainer caption`; no model is loaded here. What it was asked and what it says are files of the set,
in `.captions/page/`, so that any page that is opened or loaded again can tell how far it is.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from app.jobs.executors import local
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.requests import CaptionRequest, Progress, parse
from trainer.pictures.album import WORDS

REQUEST, SAID, LOG, PROCESS, STOP = "request.json", "said.jsonl", "log.txt", "process", "stop"
TAIL = 2**16  # bytes of what was said that hold its last line


class State(StrEnum):
    """What became of it."""

    NONE = "none"
    RUNNING = "running"
    STOPPED = "stopped"
    LOST = "lost"
    FAILED = "failed"
    DONE = "done"


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
    with _alone(place):
        if look(folder).state is State.RUNNING:
            return False
        for name in (SAID, LOG, STOP, PROCESS):
            (place / name).unlink(missing_ok=True)
        write_atomic(place / REQUEST, request.model_dump_json())
        command = [sys.executable, "-P", "-m", "trainer", "caption", str(place / REQUEST)]
        write_atomic(place / PROCESS, local.begin(command, place / SAID, place / LOG))
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
    with _alone(place):
        handle = _handle(place)
        if local.poll(handle):
            write_atomic(place / STOP, "")
            local.stop(handle)


def look(folder: Path) -> Captioning:
    """Tell how far it is."""
    place = folder / WORDS / "page"
    alive = local.poll(_handle(place))  # before its words are read: it may end in between, and then they are all there
    try:
        request = parse(CaptionRequest, (place / REQUEST).read_text("utf-8"))
    except (OSError, UserError):
        return Captioning()  # never begun, or by another version: then nothing can go on from it
    said, age = _last(place / SAID)
    if said.get("kind") == "progress":
        progress = Progress.model_validate(said)
        state = State.RUNNING if alive else _ended(place)
        return Captioning(state, request, progress, age=age, error=_cause(place) if state is State.LOST else None)
    if "problem" in said:
        return Captioning(State.FAILED, request, error=UserError(**said))
    if said:
        return Captioning(State.DONE, request, answer=said)
    state = State.RUNNING if alive else _ended(place)
    return Captioning(state, request, error=_cause(place) if state is State.LOST else None)


def running(home: Path) -> Path | None:
    """Folder of a set that is being captioned, if there is one."""
    found = (home / "datasets").glob(f"*/{WORDS}/page/{PROCESS}")
    return next((path.parents[2] for path in found if look(path.parents[2]).state is State.RUNNING), None)


def _ended(place: Path) -> State:
    return State.STOPPED if (place / STOP).exists() else State.LOST


def _cause(place: Path) -> UserError:
    """Why a process ended without a word of its own: the last line that it wrote beside."""
    try:
        lines = (place / LOG).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    reason = f": {lines[-1][:300]}" if lines else ", as after a crash of the machine or for want of memory"
    fix = f"Resume goes on from what is kept. All it said is in {place / LOG}."
    return UserError(f"the model's process ended{reason}", "", fix)


def _last(path: Path) -> tuple[dict[str, Any], float]:
    """The last thing that was said, and how long ago; a line that is still being written does not count."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[:-1]
        age = max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return {}, 0.0
    for line in reversed(lines):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library printed something
        if isinstance(said, dict):
            return said, age
    return {}, age


def _handle(place: Path) -> str:
    try:
        return (place / PROCESS).read_text("utf-8")
    except OSError:
        return ""


def _place(folder: Path) -> Path:
    place = folder / WORDS / "page"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One at a time begins or ends something here: a button that is pressed twice begins one process."""
    with FileLock(place / ".lock", thread_local=False):
        yield
