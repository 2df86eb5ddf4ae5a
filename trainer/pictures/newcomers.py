"""Sets that are made for an import: one into which nothing came is taken away again, unless others are at work in it.

Several imports may begin the same new set at the same time, in several programs. Each leaves its name in the set while
it is at work; the last one who leaves an empty set takes it away. What nobody made for an import stays, empty or not.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from trainer.contract.errors import UserError
from trainer.contract.files import storage_error
from trainer.pictures.album import LOCK, create_album, is_own, locked, open_album

GUESTS = ".importing"  # folder in a set: a file for each import that is at work there
NEW = "new"  # a file among them: the set was made for an import, and nothing has come into it yet
PATIENCE = 2.0  # seconds: a set may be taken away by the one who leaves while the next one enters


def make_for_import(folder: Path) -> bool:
    """Make an empty set that is to go again if nothing comes into it; False where the name is taken.

    Raises:
        OSError: the folder cannot be made.
        UserError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        left = [LOCK]  # where a set was taken away while another waited for it
        if [path.name for path in folder.iterdir()] != left:
            return False
    create_album(folder)
    with locked(folder):
        (folder / GUESTS).mkdir(exist_ok=True)
        (folder / GUESTS / NEW).touch()
    return True


@contextmanager
def at_work(folder: Path, prepare: Callable[[], object]) -> Iterator[None]:
    """Within this an import is at work in a set.

    Args:
        folder: the set.
        prepare: makes it a set of the user's own where it is none; may be called several times.

    Raises:
        UserError: the set cannot be made or written.
    """
    guest = _enter(folder, prepare)
    try:
        yield
    finally:
        _leave(folder, guest)


def _enter(folder: Path, prepare: Callable[[], object]) -> Path:
    """Leave a name in the set; made anew where the one who left last has taken it away in between."""
    guest, until = folder / GUESTS / f"{os.getpid()}-{secrets.token_hex(4)}", time.monotonic() + PATIENCE
    fault: UserError | None = None
    while fault is None or time.monotonic() < until:
        try:
            prepare()
            guest.parent.mkdir(exist_ok=True)
            guest.touch()  # before the lock: from now on nobody who comes later takes the set away
            with locked(folder):
                if guest.exists() and is_own(folder):
                    return guest
            fault = UserError("The set was taken away.", str(folder), "See which program does it, and try again.")
        except OSError as error:
            fault = storage_error(error, folder)
        except UserError as error:
            fault = error
        time.sleep(0.01)
    raise fault


def _leave(folder: Path, guest: Path) -> None:
    gone = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(4)}.gone")
    with suppress(UserError), locked(folder):  # where it is locked for long or gone, somebody else sees to it
        guest.unlink(missing_ok=True)
        others = [path for path in guest.parent.glob("*-*") if _is_there(path)]
        new = guest.parent / NEW
        if others or not new.exists():
            return
        album = open_album(folder)
        if album.entries or album.label:  # something came, or somebody has changed it by hand
            new.unlink()
        else:
            with suppress(OSError):  # it stays as an empty set, which can be used: Windows moves no folder in use
                folder.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


def _is_there(guest: Path) -> bool:
    """Whether an import still runs; what a killed one left is cleared away."""
    number = guest.name.partition("-")[0]
    if number.isdecimal() and psutil.pid_exists(int(number)):
        return True
    guest.unlink(missing_ok=True)
    return False
