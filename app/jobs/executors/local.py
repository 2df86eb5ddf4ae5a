"""Trainings as detached processes of this machine."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

CODE_ROOT = Path(__file__).resolve().parents[3]
TOKEN = "ATELIER_START"  # in a training's environment: the token of its start
CARD = "CUDA_VISIBLE_DEVICES"  # the cards that CUDA shows a process
AWAITED_SECONDS = 2.0
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


def submit(run_dir: Path, token: str, card: str = "") -> str:
    """Start a training in a session of its own, which sees one card; what it prints is appended to the run's log."""
    return begin(command(run_dir), run_dir / "log.txt", run_dir / "log.txt", token, card)


def begin(what: Sequence[str], out: Path, errors: Path, token: str = "", card: str = "") -> str:
    """Start a process that outlives this one; what it prints is appended to files. Returns its handle."""
    own = {**environment(), **{name: value for name, value in ((TOKEN, token), (CARD, card)) if value}}
    with out.open("ab") as says, errors.open("ab") as complains:
        child = subprocess.Popen(what, stdin=subprocess.DEVNULL, stdout=says, stderr=complains, env=own, **detached())
    _children[child.pid] = child
    if token:
        _await_token(child)
    return handle_of(child.pid, token)


def _await_token(child: "subprocess.Popen[bytes]") -> None:
    """For a moment after its start a process has no environment yet, and would look like a stranger."""
    limit = time.monotonic() + AWAITED_SECONDS
    while child.poll() is None and _token(psutil.Process(child.pid)) == "" and time.monotonic() < limit:
        time.sleep(0.002)


def handle_of(pid: int, token: str = "") -> str:
    """`pid:created:token`, which a reused process number does not fit."""
    try:
        return f"{pid}:{psutil.Process(pid).create_time()}:{token}"
    except psutil.NoSuchProcess:
        return f"{pid}:0:{token}"


def adopt(token: str) -> str:
    """Find the process of a start that nobody has a handle of; "" where it does not live."""
    carrying = [process for process in psutil.process_iter(["create_time"]) if token and _token(process) == token]
    first = min(carrying, key=lambda process: float(process.info["create_time"]), default=None)  # not what it started
    return handle_of(first.pid, token) if first else ""


def _token(process: psutil.Process) -> str | None:
    """The token in a process's environment; None where that may not be read."""
    try:
        return str(process.environ().get(TOKEN, ""))
    except psutil.AccessDenied:
        return None
    except (psutil.NoSuchProcess, OSError):
        return ""


def find(handle: str) -> psutil.Process | None:
    """Return the process of a handle while it lives."""
    pid, created, token = (*handle.split(":"), "", "")[:3]
    if not pid:
        return None
    if child := _children.get(int(pid)):
        child.poll()
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same and (not token or _token(process) in (token, None)) else None


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


def stop_process(pid: int, created: float) -> None:
    """The same for a process that has no handle, by its number and when it was made."""
    stop(f"{pid}:{created}")


def _signal(process: psutil.Process, force: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it went by itself, which is what was wanted
        process.kill() if force else process.terminate()
