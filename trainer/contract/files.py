"""Files that are whole or not there: written beside, flushed to disk, renamed into place."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from trainer.contract.errors import UserError


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


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
    return UserError(problem, str(path), fix)
