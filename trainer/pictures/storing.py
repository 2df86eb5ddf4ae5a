"""Writing a file so that a reader sees all of it or none of it."""

import os
import threading
from pathlib import Path

from trainer.contract.errors import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under a hidden name in the same folder, then rename it to `path`.

    Raises:
        UserError: the file cannot be written (no space, no permission).
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        fix = "Check the free space and that you may write in this folder."
        raise UserError(f"The file could not be written ({reason}).", str(path), fix) from error
