"""What the headers of model files say, read once for each version of a file and kept between starts.

`<home>/.cache/headers.json` is only a memory: without it every file is read again, a millisecond or two each.
"""

import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.formats.glance import Glance, glance

FORM = 1  # of the file; another is passed over
Stamp = tuple[float, int]  # time and size of a file


def stamp(path: Path) -> Stamp:
    """The version of a file; (0, 0) where it is gone."""
    try:
        facts = path.stat()
    except OSError:
        return 0.0, 0
    return facts.st_mtime, facts.st_size


class Wanted(NamedTuple):
    """A file that is to be read.

    Attributes:
        path: of the file.
        stamp: its version.
        beside: its `.json`, if it may be read.
    """

    path: Path
    stamp: Stamp
    beside: Path | None = None


class Progress(NamedTuple):
    """How far a reading is; 0 of 0 where none is going on."""

    done: int
    total: int


class _Memory:
    """All that is known, of one home."""

    def __init__(self, home: Path) -> None:
        self.file = home / ".cache" / "headers.json"
        self.lock = threading.Lock()
        self.seen: dict[str, tuple[Stamp, Glance]] = _loaded(self.file)
        self.progress = Progress(0, 0)

    def read(self, wanted: Iterable[Wanted]) -> None:
        for one in wanted:
            self.seen[str(one.path)] = one.stamp, glance(one.path, one.beside)
            self.progress = self.progress._replace(done=self.progress.done + 1)

    def read_and_keep(self, wanted: list[Wanted]) -> None:
        try:
            self.read(wanted)
            self.keep()
        finally:
            self.progress = Progress(0, 0)
            self.lock.release()

    def keep(self) -> None:
        here = [(path, found) for path, found in list(self.seen.items()) if Path(path).exists()]
        told = {path: [*stamp, asdict(seen)] for path, (stamp, seen) in here}
        try:
            self.file.parent.mkdir(exist_ok=True)
            write_atomic(self.file, json.dumps({"form": FORM, "files": told}))
        except (UserError, OSError) as error:
            logging.warning("%s is not written, and its files are read again next time: %s", self.file, error)


@cache
def _memory(home: Path) -> _Memory:
    return _Memory(home)


def known(home: Path, path: Path, stamp: Stamp) -> Glance | None:
    """What this version of a file says; None where it has not been read yet."""
    found = _memory(home).seen.get(str(path))
    return found[1] if found and found[0] == stamp else None


def read(home: Path, wanted: list[Wanted], at_once: int) -> Progress:
    """See that files are read: a few of them now, many in the background.

    Args:
        home: the data folder.
        wanted: files whose versions are not known.
        at_once: how many are few.

    Returns:
        How far the reading is that goes on now.
    """
    memory = _memory(home)
    if wanted and memory.lock.acquire(blocking=False):
        memory.progress = Progress(0, len(wanted))
        if len(wanted) <= at_once:
            memory.read_and_keep(wanted)
        else:
            threading.Thread(target=memory.read_and_keep, args=(wanted,), daemon=True, name="headers").start()
    return memory.progress


def read_one(home: Path, wanted: Wanted) -> None:
    """Read one file now."""
    _memory(home).seen[str(wanted.path)] = wanted.stamp, glance(wanted.path, wanted.beside)


def _loaded(file: Path) -> dict[str, tuple[Stamp, Glance]]:
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["form"] != FORM:
            return {}
        return {
            path: ((float(time), int(size)), _glance(told)) for path, (time, size, told) in content["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged: it is made again


def _glance(told: dict[str, Any]) -> Glance:
    """Lists of JSON are tuples again. Raises TypeError for another form."""
    names = {field.name for field in fields(Glance)}
    if set(told) != names:
        raise TypeError
    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Glance(**values)
