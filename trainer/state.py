"""Checkpoints of a run: saved whole, verified before they are used. Their form is in `trainer.contract.checkpoints`."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.contract.checkpoints import ABOUT, PREFIX, TENSORS, fault, folder_name, step_of, write_whole
from trainer.contract.checkpoints import list_checkpoints as folders
from trainer.contract.errors import UserError
from trainer.contract.files import storage_error, system_error, with_room
from trainer.contract.rundir import RunDir

MASTER = "master"  # the adapter, as the optimiser sees it
LEAST = 2  # checkpoints kept, whatever is asked: the newest may turn out to be damaged


class Checkpoint(NamedTuple):
    """What was saved after a step.

    Attributes:
        step: optimiser steps done.
        tensors: by name.
        about: plain values saved beside them.
    """

    step: int
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def save_checkpoint(
    run: RunDir, step: int, tensors: Mapping[str, Tensor], keep: int, about: Mapping[str, Any] | None = None
) -> Path:
    """Write `checkpoints/step-NNNNNN/`, then drop the oldest ones beyond `keep`, never below two.

    The folder is filled under another name, flushed to disk, and renamed: a crash leaves the last whole one in place.

    Args:
        run: its folder.
        step: optimiser steps done.
        tensors: on any device.
        keep: checkpoints on disk.
        about: plain values that belong to the state.

    Raises:
        UserError: a number is not finite, or the disk is full; what was saved before is untouched.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    refuse_non_finite(held, f"the checkpoint of step {step}")
    final = run.checkpoints / folder_name(step)
    with_room(lambda: _write(final, held, {**(about or {}), "step": step}))
    _prune(run, max(keep, LEAST))
    return final


def _write(final: Path, held: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    def fill(folder: Path) -> None:
        save_file(dict(held), folder / TENSORS)
        (folder / ABOUT).write_text(json.dumps(about), "utf-8")

    try:
        write_whole(final, fill)
    except (OSError, SafetensorError) as error:
        raise storage_error(error if isinstance(error, OSError) else system_error(str(error)), final) from error


def _prune(run: RunDir, keep: int) -> None:
    """Drop old checkpoints, what a crash left half done, and what was found damaged."""
    for old in [*folders(run.checkpoints)[:-keep], *run.checkpoints.glob(f".{PREFIX}*")]:
        shutil.rmtree(old, ignore_errors=True)


def refuse_non_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Check what is about to be written.

    Raises:
        UserError: a number in it is not finite.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise UserError(
            f"{what} is not written: {', '.join(bad[:3])} would hold numbers that are not finite",
            "optimizer.learning_rate",
            "The last good checkpoint stands. Start again with a third of the learning rate.",
        )


def list_checkpoints(run: RunDir) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return folders(run.checkpoints)


def has_checkpoint(run: RunDir) -> bool:
    """Whether there is one that `load_latest` would return."""
    return any(not fault(path) for path in reversed(list_checkpoints(run)))


def load_latest(run: RunDir, say: Callable[[str], None] | None = None) -> Checkpoint | None:
    """Return the newest checkpoint of which every byte is as it was written; None where there is none.

    A damaged one is put aside, so that it does not count as one of those that are kept.

    Args:
        run: is told of what was passed over.
        say: hears it too.

    Raises:
        UserError: what another run handed on is damaged, and nothing newer is whole.
    """
    for path in reversed(list_checkpoints(run)):
        reason = fault(path)
        if not reason:
            about = json.loads((path / ABOUT).read_text("utf-8"))
            return Checkpoint(int(about["step"]), load_file(path / TENSORS), about)
        if step_of(path) == 0:  # nothing but another run's adapter is ever kept there
            problem = f"what this run goes on from is damaged ({path.name}, {reason})"
            fix = "Make it once more from the run it came from: atelier resume RUN --as-new."
            raise UserError(problem, run.name, fix)
        before = [other for other in list_checkpoints(run) if other.name < path.name]
        instead = f"trying {before[-1].name}, the one before" if before else "starting from the beginning"
        text = f"the checkpoint {path.name} is damaged ({reason}): {instead}"
        run.emit("notice", text=text)
        if say:
            say(text)
        _put_aside(path)
    return None


def _put_aside(path: Path) -> None:
    """Give a damaged checkpoint a name that is not read; the next save removes it."""
    aside = path.with_name(f".{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
