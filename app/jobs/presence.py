"""Which web processes are there: the supervisor ends itself when it is idle and none is left."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.jobs.executors.local import find, handle_of


def _folder(home: Path) -> Path:
    return home / ".web"


@contextmanager
def present(home: Path) -> Iterator[None]:
    """Be counted as a web process of this home while the block runs."""
    path = _folder(home) / f"{os.getpid()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"handle": handle_of(psutil.Process().pid)}), "utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def anyone(home: Path) -> bool:
    """Whether a web process is there; what dead ones left is cleared away."""
    found = False
    for path in _folder(home).glob("*.json"):
        try:
            handle = json.loads(path.read_text("utf-8"))["handle"]
        except (ValueError, KeyError, FileNotFoundError):
            continue  # being written, or just gone
        if find(handle):
            found = True
        else:
            path.unlink(missing_ok=True)
    return found
