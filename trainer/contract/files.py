"""Files that are whole or not there: written beside, flushed to disk, renamed into place."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from trainer.contract.errors import UserError

UNFINISHED = ".tmp"  # ends the name of a file that is being written; before it stands the process that writes
FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")


class DiskFull(UserError):
    """There is no room left, or no quota."""


class Patience(Protocol):
    """What is done while the disk is full."""

    def wait(self, error: DiskFull) -> bool:
        """Wait a while; return whether to try again."""

    def over(self) -> None:
        """It went on."""


_patience: list[Patience] = []  # of this process; the innermost counts


@contextmanager
def patient(patience: Patience) -> Iterator[None]:
    """Within this, what finds the disk full is written again when there is room."""
    _patience.append(patience)
    try:
        yield
    finally:
        _patience.remove(patience)


def with_room(write: Callable[[], T]) -> T:
    """Let `write` do its work, again and again while it raises `DiskFull` and somebody is patient.

    Raises:
        DiskFull: nobody is, or not any more.
    """
    patience, waited = next(reversed(_patience), None), False
    while True:
        try:
            done = write()
        except DiskFull as error:
            if patience is None or not patience.wait(error):
                raise
            waited = True
        else:
            if waited and patience:
                patience.over()
            return done


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: of the file.
        fix: what to do where it is damaged.

    Raises:
        UserError: it is damaged.
        FileNotFoundError: it is not there.
    """
    with suppress(ValueError):
        if isinstance(found := json.loads(path.read_text("utf-8")), dict):
            return found
    raise UserError(f"{path.name} is damaged", str(path), fix)


def append_line(path: Path, line: str) -> None:
    """Append a whole line or nothing.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """

    def write() -> None:
        data = f"{line}\n".encode()
        try:
            with path.open("ab", buffering=0) as stream:
                end = stream.seek(0, os.SEEK_END)
                try:
                    if stream.write(data) < len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    stream.truncate(end)
                    raise
        except OSError as error:
            raise storage_error(error, path) from error

    with_room(write)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step.

    Raises:
        UserError: the disk is full or the folder cannot be written; what stood there before is untouched.
    """
    blob = data.encode("utf-8") if isinstance(data, str) else data
    replace_atomic(path, lambda temporary: temporary.write_bytes(blob))


def replace_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then put it in the place of `path`.

    Raises:
        UserError: the disk is full or the folder cannot be written; what stood there before is untouched.
    """
    with_room(lambda: _replace(path, write))


def write_sign(path: Path, text: str) -> None:
    """As `write_atomic`, but without patience: on a full disk over the old text, which has its place already.

    Where not even that can be done, the old text stays: what it tells, the log tells too.
    """
    data = text.encode()
    try:
        _replace(path, lambda temporary: temporary.write_bytes(data))
    except DiskFull:
        with suppress(OSError), path.open("r+b") as stream:
            stream.write(data.ljust(path.stat().st_size))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = unfinished(path)
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a name that is too long is so here again
            temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def unfinished(path: Path) -> Path:
    """Return the hidden name beside `path` that this thread writes it under: no other one in the system has it."""
    return path.with_name(f".{path.name}.{threading.get_native_id()}.{os.getpid()}{UNFINISHED}")


def clear_unfinished(folder: Path) -> None:
    """Remove what processes that are gone were writing in a folder and below, when this one has written nothing yet."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        writer = path.stem.rpartition(".")[2]
        if path.is_file() and writer.isdigit() and (int(writer) == os.getpid() or not psutil.pid_exists(int(writer))):
            path.unlink(missing_ok=True)


def storage_error(error: OSError, path: Path) -> UserError:
    """Say in words why a file could not be written."""
    reasons = {
        errno.ENOSPC: (
            "the disk is full",
            "Free some space, then try again (`atelier resume` goes on with a run): nothing that was saved is lost.",
        ),
        errno.EDQUOT: (
            "the disk quota is used up",
            "Free some space, then try again (`atelier resume` goes on with a run): nothing is lost.",
        ),
        errno.EFBIG: (
            "the file grew past the size that is allowed here",
            "Raise the limit (ulimit -f), then try again (`atelier resume` goes on with a run).",
        ),
        errno.EACCES: ("this place may not be written to", "Choose another folder with --data-dir."),
        errno.EROFS: ("this place is read-only", "Choose another folder with --data-dir."),
    }
    problem, fix = reasons.get(error.errno or 0, (error.strerror or str(error), "Look at the folder, then try again."))
    return (DiskFull if error.errno in FULL else UserError)(problem, str(path), fix)


def system_error(text: str) -> OSError:
    """safetensors hands an operating system error on as text: `... (os error 28)`."""
    number = text.rpartition("os error ")[2].rstrip(")} ")
    return OSError(int(number) if number.isdigit() else 0, text)
