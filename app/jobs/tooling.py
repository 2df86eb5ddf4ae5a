"""Tools for adapter files, seen from the page: a process of its own that outlives page and server, as training does.

What it writes lands in the library whether anybody still looks or not.
"""

import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from app import owners
from app.jobs.executors import local
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.requests import Progress
from trainer.contract.tools import ToolRequest

SHELF = Path(".cache") / "tools"
HANDLE, STOPPED = "handle", "stopped"  # files: the process, and that it was told to end
LOOK_SECONDS = 0.2
KEPT_SECONDS = 86400.0  # of folders that nobody cleared, because page or server went away


def begin(home: Path, command: str, request: ToolRequest) -> str:
    """Have the trainer do something, in a process of its own.

    Args:
        home: data folder.
        command: `analyze`, `resize`, `merge` or `convert`.
        request: what is asked of it.

    Returns:
        A name for this piece of work, by which it is followed and stopped.
    """
    _clear(home / SHELF)
    name = secrets.token_hex(8)
    place = home / SHELF / name
    place.mkdir(parents=True)
    owners.sign(place)
    write_atomic(place / "request.json", request.model_dump_json())
    started = [sys.executable, "-P", "-m", "trainer", command, str(place / "request.json")]
    write_atomic(place / HANDLE, local.begin(started, place / "said.jsonl", place / "log.txt"))
    return name


def running(home: Path) -> str:
    """Name of the newest piece of work that is under way and is of whoever looks; "" where there is none."""
    handles = sorted((home / SHELF).glob(f"*/{HANDLE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    mine = (path for path in handles if owners.visible(path.parent) and local.poll(path.read_text()))
    return next((path.parent.name for path in mine), "")


def follow(home: Path, name: str) -> Iterator[Progress | dict[str, Any]]:
    """Yield how far a piece of work is, and its answer last; no answer where another page was given it.

    Raises:
        UserError: it cannot be done, it was stopped, or the process came to nothing.
    """
    place = home / SHELF / name
    far = Progress(what="starting", done=0, total=0)
    yield far
    try:
        handle = (place / HANDLE).read_text()
        while local.poll(handle):
            said = _last(place / "said.jsonl")
            far = Progress.model_validate(said) if said.get("kind") == "progress" else far
            yield far  # again and again: a page that is still being opened clears what it was told
            time.sleep(LOOK_SECONDS)
        said = _last(place / "said.jsonl")  # the process may have ended in between: now all its words are there
    except FileNotFoundError:
        return
    yield _answer(place, said)


def _answer(place: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What an ended process said last; its folder goes, unless it came to nothing."""
    nothing = not said or said.get("kind") == "progress"
    if nothing and (place / STOPPED).exists():
        shutil.rmtree(place, ignore_errors=True)
        raise UserError("stopped; nothing was written", "", "Start it again when you like.")
    if nothing:
        lines = (place / "log.txt").read_text("utf-8", "replace").strip().splitlines()
        reason = f": {lines[-1][:300]}" if lines else ", as for want of memory"
        raise UserError(f"the tool's process ended{reason}", "", f"All it said is in {place / 'log.txt'}.")
    if "problem" in said:
        raise UserError(**said)
    shutil.rmtree(place, ignore_errors=True)
    return said


def stop(home: Path, name: str) -> None:
    """End a piece of work; nothing where it has ended already."""
    place = home / SHELF / name
    with suppress(OSError):  # it ended, and its folder is gone
        handle = (place / HANDLE).read_text()
        (place / STOPPED).touch()
        local.stop(handle)


def _clear(shelf: Path) -> None:
    for place in shelf.glob("*"):
        if time.time() - place.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(place, ignore_errors=True)


def _last(path: Path) -> dict[str, Any]:
    """The last object that was said; a line that is still being written does not count."""
    for line in reversed(path.read_bytes().split(b"\n")[:-1]):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library printed something
        if isinstance(said, dict):
            return said
    return {}
