"""Checkpoints: a folder that is whole or not there, holding what cannot be computed again from the config."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.contract.files import storage_error
from trainer.contract.rundir import RunDir

TENSORS, ABOUT = "state.safetensors", "state.json"
PREFIX = "step-"


def save_checkpoint(run: RunDir, step: int, tensors: Mapping[str, Tensor], keep: int) -> Path:
    """Write `checkpoints/step-NNNNNN/`, then drop the oldest ones beyond `keep`.

    The folder is filled under another name, flushed to disk, and renamed: a crash leaves the last whole one in place.

    Raises:
        UserError: the disk is full; what was saved before is untouched.
    """
    final = run.checkpoints / f"{PREFIX}{step:06d}"
    partial = run.checkpoints / f".{final.name}.{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial / TENSORS)
        (partial / ABOUT).write_text(json.dumps({"step": step}), "utf-8")
        for path in (partial / TENSORS, partial / ABOUT, partial):
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)  # left there by a run that was continued from an earlier step
        partial.rename(final)
        _flush(run.checkpoints)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error if isinstance(error, OSError) else _disk_error(str(error))
        raise storage_error(reason, final) from error
    for old in [
        *list_checkpoints(run)[:-keep],
        *run.checkpoints.glob(f".{PREFIX}*"),
    ]:  # and what a crash left half done
        shutil.rmtree(old, ignore_errors=True)
    return final


def _disk_error(text: str) -> OSError:
    """safetensors hands an operating system error on as text: `... (os error 28)`."""
    number = text.rpartition("os error ")[2].rstrip(")} ")
    return OSError(int(number) if number.isdigit() else 0, text)


def _flush(path: Path) -> None:
    """Make what is written survive a power cut. A folder is flushed too, where the system can: it holds the name."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def list_checkpoints(run: RunDir) -> list[Path]:
    """Return the whole checkpoints, oldest first."""
    return sorted(path for path in run.checkpoints.glob(f"{PREFIX}*") if (path / ABOUT).is_file())


def load_latest(run: RunDir) -> tuple[int, dict[str, Tensor]] | None:
    """Return (step, tensors) of the newest checkpoint that can be read; None where there is none."""
    for path in reversed(list_checkpoints(run)):
        try:
            step = int(json.loads((path / ABOUT).read_text("utf-8"))["step"])
            return step, load_file(path / TENSORS)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            run.emit("notice", text=f"{path.name} cannot be read ({error}); trying the one before.")
    return None
