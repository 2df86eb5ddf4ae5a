"""A process beside the page that outlives it: a folder has what it was asked, what it says, and which process it is.

Any page that is opened or loaded again can tell from there how far it is.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from app.jobs.executors import local
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic

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


def begin(place: Path, command: str, request: str) -> None:
    """Start `trainer COMMAND` on a request; what an earlier one said is cleared away."""
    for name in (SAID, LOG, STOP, PROCESS):
        (place / name).unlink(missing_ok=True)
    write_atomic(place / REQUEST, request)
    started = [sys.executable, "-P", "-m", "trainer", command, str(place / REQUEST)]
    write_atomic(place / PROCESS, local.begin(started, place / SAID, place / LOG))


def end(place: Path) -> None:
    """End it, if it is there."""
    found = handle(place)
    if local.poll(found):
        write_atomic(place / STOP, "")
        local.stop(found)


def alive(place: Path) -> bool:
    """Whether it is there. To be asked before its words are read: where it ends in between, they are all there."""
    return local.poll(handle(place))


def state(place: Path, alive: bool, said: dict[str, Any]) -> State:
    """What became of it, by its last words."""
    if "problem" in said:
        return State.FAILED
    if said and said.get("kind") != "progress":
        return State.DONE
    if alive:
        return State.RUNNING
    return State.STOPPED if (place / STOP).exists() else State.LOST


def cause(place: Path, what: str) -> UserError:
    """Why a process ended without a word of its own: the last line that it wrote beside."""
    try:
        lines = (place / LOG).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    reason = f": {lines[-1][:300]}" if lines else ", as after a crash of the machine or for want of memory"
    fix = f"Resume goes on from what is kept. All it said is in {place / LOG}."
    return UserError(f"{what} ended{reason}", "", fix)


def last(place: Path) -> tuple[dict[str, Any], float]:
    """The last thing that was said, and how long ago; a line that is still being written does not count."""
    path = place / SAID
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


def handle(place: Path) -> str:
    """The process, as its executor knows it."""
    try:
        return (place / PROCESS).read_text("utf-8")
    except OSError:
        return ""


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """One at a time begins or ends something here: a button that is pressed twice begins one process."""
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock", thread_local=False):
        yield
