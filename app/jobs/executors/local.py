"""Trainings as detached processes of this machine."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

CODE_ROOT = Path(__file__).resolve().parents[3]
_children: dict[int, subprocess.Popen[bytes]] = {}  # kept so that they can be reaped


def detached() -> dict[str, Any]:
    """Keyword arguments of Popen for a process that outlives this one and hears none of its signals."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        return {"creationflags": flags}
    return {"start_new_session": True}


def environment() -> dict[str, str]:
    """This environment, with the folder of our packages on the path: `-P` keeps the working folder off it."""
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    paths = dict.fromkeys([str(CODE_ROOT), *known])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def command(run_dir: Path) -> list[str]:
    """What is started for a run."""
    return [sys.executable, "-P", "-m", "trainer", "train", str(run_dir)]


def submit(run_dir: Path) -> str:
    """Start a training in a session of its own; what it prints is appended to the run's log."""
    return begin(command(run_dir), run_dir / "log.txt", run_dir / "log.txt")


def begin(what: Sequence[str], out: Path, errors: Path) -> str:
    """Start a process that outlives this one; what it prints is appended to files. Returns its handle."""
    with out.open("ab") as says, errors.open("ab") as complains:
        child = subprocess.Popen(
            what, stdin=subprocess.DEVNULL, stdout=says, stderr=complains, env=environment(), **detached()
        )
    _children[child.pid] = child
    return handle_of(child.pid)


def handle_of(pid: int) -> str:
    """A handle that a reused process number does not fit."""
    try:
        return f"{pid}:{psutil.Process(pid).create_time()}"
    except psutil.NoSuchProcess:
        return f"{pid}:0"


def find(handle: str) -> psutil.Process | None:
    """Return the process of a handle while it lives."""
    pid, _, created = handle.partition(":")
    if not pid:
        return None
    if child := _children.get(int(pid)):
        child.poll()
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def poll(handle: str) -> bool:
    """Whether the process is still there."""
    return find(handle) is not None


def stop(handle: str) -> None:
    """End the process and everything it started: asked first, forced after five seconds."""
    process = find(handle)
    if process is None:
        return
    family = [process, *process.children(recursive=True)]
    for member in family:
        _signal(member, force=False)
    _, stubborn = psutil.wait_procs(family, timeout=5)
    for member in stubborn:
        _signal(member, force=True)


def _signal(process: psutil.Process, force: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it went by itself, which is what was wanted
        process.kill() if force else process.terminate()
