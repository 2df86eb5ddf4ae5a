"""Checkpoint folders of a run: each is whole or not there, and a manifest accounts for every byte of it.

    checkpoints/step-000300/
        state.safetensors   every tensor that cannot be computed again from the config
        state.json          the step, and what the run was made of when it was saved
        manifest.json       size and SHA-256 of the files above, written last

A folder is filled under a name that nobody reads, flushed to disk and renamed. What does not agree with its manifest is
never loaded.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

TENSORS, ABOUT, MANIFEST = "state.safetensors", "state.json", "manifest.json"
PREFIX = "step-"
SUCCEEDS = "succeeds"  # in state.json: the run whose adapter this is, where a new run goes on from it


def folder_name(step: int) -> str:
    """Of the checkpoint after that many steps; names sort like the steps."""
    return f"{PREFIX}{step:06d}"


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name tells; -1 where it is no checkpoint's."""
    digits = folder.name.removeprefix(PREFIX)
    return int(digits) if folder.name.startswith(PREFIX) and digits.isascii() and digits.isdigit() else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's `checkpoints/`, oldest first; whether they are whole is for `fault` to say."""
    return sorted((path for path in folder.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)


def last_saved(folder: Path) -> int:
    """The step of the last checkpoint in a run's `checkpoints/`, 0 where there is none."""
    return max(map(step_of, list_checkpoints(folder)), default=0)


def manifest(folder: Path) -> bytes:
    """What the manifest of a folder must be, byte for byte, so that a change in the manifest itself shows too.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    found = {}
    for name in (ABOUT, TENSORS):
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[name] = {"bytes": stream.tell(), "sha256": digest}
    return (json.dumps({"files": found}, indent=1) + "\n").encode()


def fault(folder: Path) -> str:
    """Say what is wrong with a checkpoint; nothing where every byte is as it was written."""
    try:
        whole = manifest(folder) == (folder / MANIFEST).read_bytes()
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror or error}"
    return "" if whole else f"its files are not those that {MANIFEST} tells of"


def flush(path: Path) -> None:
    """Make what is written survive a power cut. A folder is flushed too, where the system can: it holds the names."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(final: Path, fill: Callable[[Path], None]) -> None:
    """Make a checkpoint folder that is whole or not there, whenever the power goes.

    Args:
        final: its place; what is there already is replaced.
        fill: writes the tensors and what is said about them into the folder it is given.

    Raises:
        OSError: the disk is full, or the like; and whatever `fill` raises.
    """
    partial = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        fill(partial)
        flush(partial / TENSORS)
        flush(partial / ABOUT)
        (partial / MANIFEST).write_bytes(manifest(partial))
        flush(partial / MANIFEST)
        flush(partial)
        shutil.rmtree(final, ignore_errors=True)  # left there by a run that was continued from an earlier step
        partial.rename(final)
        flush(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def hand_on(old: Path, name: str, new: Path) -> bool:
    """Let a new run begin with what another has learned: its adapter, with a fresh optimiser and schedule.

    Args:
        old: `checkpoints/` of the other run.
        name: the other run's.
        new: `checkpoints/` of the new run.

    Returns:
        Whether there was a whole checkpoint to begin with.

    Raises:
        OSError: the disk is full, or the like.
    """
    whole = next((path for path in reversed(list_checkpoints(old)) if not fault(path)), None)
    if whole is None:
        return False

    def fill(folder: Path) -> None:
        shutil.copyfile(whole / TENSORS, folder / TENSORS)
        (folder / ABOUT).write_text(json.dumps({"step": 0, SUCCEEDS: name}), "utf-8")

    write_whole(new / folder_name(0), fill)
    return True
