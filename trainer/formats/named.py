"""Copies of an adapter file under other names: the name inside follows the name outside."""

import shutil
from pathlib import Path

from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic, write_atomic
from trainer.contract.rundir import RunDir
from trainer.formats.header import read_header
from trainer.formats.metadata import NAMES, renamed


def copy_as(source: Path, target: Path) -> None:
    """Copy an adapter file; where it says its name, the copy says that of `target`.

    A file that names itself nowhere stays as it is: any metadata at all makes A1111 take it for an SD 1.x's.

    Raises:
        UserError: `source` is no sound safetensors file, or `target` cannot be written.
    """
    if source.stem == target.stem or not NAMES & read_header(source).metadata.keys():
        replace_atomic(target, lambda temporary: shutil.copyfile(source, temporary))
    else:
        write_atomic(target, renamed(source.read_bytes(), target.stem))


def file_of(run: RunDir, step: int) -> Path:
    """Return the adapter file that a run wrote after a step.

    Raises:
        UserError: it wrote none then; it is said when it did.
    """
    saves = run.step_files()
    end = run.adapter_file
    if end.is_file() and (last := read_header(end).metadata.get("ss_steps", "")).isdecimal():
        saves[int(last)] = end
    if step in saves:
        return saves[step]
    there = ", ".join(map(str, sorted(saves))) or "none yet"
    fix = f"There are files of steps: {there}. They come with training.save_every, while export.each_save is on."
    raise UserError(f"run '{run.name}' has no adapter file of step {step}", "--step", fix)


def choose(run: RunDir, source: Path) -> Path:
    """Make one of a run's adapter files the chosen one, `NAME-best.safetensors`, in the place of an earlier choice."""
    if source != run.best_file:
        copy_as(source, run.best_file)
    return run.best_file
