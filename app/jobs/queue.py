"""What the page does with trainings: submit, stop, resume, order, remove; and the list of all that are known."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from app.jobs import store
from app.jobs.executors import executor
from app.jobs.executors.local import CODE_ROOT, detached, environment
from app.jobs.model import BUSY, RESUMABLE, Job, Place, Shown, shown
from trainer.contract.amendments import Rate, ask
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rundir import ACTIVE, RunDir, State, Status, create_run, find_run, list_runs, successor

GRACE_SECONDS = 120.0  # for a run that hangs; one that draws or saves shows that it lives
MARKER = "queued"  # requests/queued: the run folder knows that it waits, so the queue can be rebuilt from folders


@dataclass(frozen=True)
class Entry:
    """One run as the page shows it.

    Attributes:
        run: its folder.
        status: what its process last wrote.
        shown: the state for people.
        job: its row in the queue, if it has one.
        outside: it runs, but was started from a terminal.
    """

    run: RunDir
    status: Status
    shown: Shown
    job: Job | None
    outside: bool


def entry(home: Path, name: str) -> Entry:
    """Look at one run. Raises UserError where there is none."""
    return _entry(find_run(home, name), store.jobs(home).get(name))


def known(home: Path, name: str) -> Entry | None:
    """Look at a run by its name, if there is one."""
    try:
        return entry(home, name) if name else None
    except UserError:  # it was removed meanwhile
        return None


def entries(home: Path) -> list[Entry]:
    """Look at every run: the running ones, then the waiting ones in their order, then the others, newest first."""
    rows = store.jobs(home)
    found = [_entry(run, rows.get(run.name)) for run in list_runs(home)]

    def rank(item: Entry) -> tuple[int, float]:
        if item.shown in BUSY:
            return 0, 0
        return (1, item.job.position) if item.shown is Shown.WAITING and item.job else (2, 0)

    return sorted(found, key=rank)  # stable: newest first stays within the last group


def _entry(run: RunDir, job: Job | None) -> Entry:
    status = run.status()
    alive = bool(job and job.handle and executor(job.executor).poll(job.handle))
    stop_asked = (run.path / "requests" / "stop").exists()
    outside = status.state in ACTIVE and not (job and job.place is Place.STARTED)
    return Entry(run, status, shown(job, status, alive, stop_asked), job, outside)


def running(home: Path) -> Entry | None:
    """Return the run that is being worked on now, if any."""
    return next((item for item in entries(home) if item.shown in BUSY), None)


def submit(home: Path, name: str, config: RunConfig) -> RunDir:
    """Make a run folder and put it at the end of the queue."""
    run = create_run(home, name, config)
    _enqueue(home, run)
    return run


def resume(home: Path, name: str) -> None:
    """Put a run that stopped, failed or was lost back into the queue; it goes on from its last save.

    Raises:
        UserError: it is running, waiting, or done.
    """
    item = entry(home, name)
    if item.shown not in RESUMABLE:
        raise UserError(f"'{name}' is {item.shown}", "resume", "Only a run that stopped, failed or was lost can go on.")
    _again(home, item.run)


def go_on_longer(home: Path, name: str, total: int, rate: Rate) -> None:
    """Put a run that is done, or could be resumed, into the queue with another length.

    Args:
        home: data folder.
        name: of the run.
        total: optimiser steps of the whole run.
        rate: what the learning rate does from its last save on, see `trainer.contract.amendments.place`.

    Raises:
        UserError: it is running or waiting, or the length is none.
    """
    item = entry(home, name)
    if item.shown not in (*RESUMABLE, Shown.DONE):
        raise UserError(f"'{name}' is {item.shown}", "continue longer", "Change its length under 'Change this run'.")
    ask(item.run, {"training": {"steps": total}}, rate)
    _again(home, item.run)


def go_on_as_new(home: Path, name: str) -> RunDir:
    """Put a new run into the queue that begins with what another has learned.

    Raises:
        UserError: the other run has saved nothing yet.
    """
    run = successor(home, find_run(home, name), {})
    _enqueue(home, run)
    return run


def _again(home: Path, run: RunDir) -> None:
    run.take_request("stop")  # one that its last process did not live to see
    _enqueue(home, run)


def _enqueue(home: Path, run: RunDir) -> None:
    run.request(MARKER)
    store.put(home, run.name)
    ensure_supervisor(home)


def stop(home: Path, name: str) -> str:
    """Stop a run: a waiting one leaves the queue, a running one saves first. Returns what happens, in words.

    Raises:
        UserError: it is not running or waiting.
    """
    item = entry(home, name)
    if item.shown is Shown.WAITING:
        store.drop(home, name)
        item.run.take_request(MARKER)
        return f"{name} left the queue."
    if item.shown not in BUSY:
        raise UserError(f"'{name}' is {item.shown}", "stop", "There is nothing to stop.")
    item.run.request("stop")
    return f"{name} stops after this step and saves."


def force_stop(home: Path, name: str) -> str:
    """End a run that does not answer; what was learned since its last save is lost."""
    item = entry(home, name)
    if item.job and item.job.handle:
        executor(item.job.executor).stop(item.job.handle)
    return f"{name} was ended. Resume goes on from the last save."


def move(home: Path, name: str, up: bool) -> None:
    """Move a waiting run one place."""
    store.swap(home, name, up)


def remove(home: Path, name: str) -> Path:
    """Move a run that is not running to the trash; return where it lies now.

    Raises:
        UserError: it is running.
    """
    item = entry(home, name)
    if item.shown in BUSY:
        raise UserError(f"'{name}' is {item.shown}", "remove", "Stop it first.")
    store.forget(home, name)
    item.run.take_request(MARKER)
    target = home / ".trash" / "runs" / f"{name}.{int(time.time() * 1000)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(item.run.path, target)
    return target


def restore(home: Path, trashed: Path) -> str:
    """Bring back what `remove` put away; return the name.

    Raises:
        UserError: it is not in the trash any more, or its name is taken.
    """
    name = re.sub(r"\.\d+$", "", trashed.name)
    target = home / "runs" / name
    if target.exists() or not trashed.is_dir():
        raise UserError(f"'{name}' cannot be brought back", str(trashed), "Look for it in the trash folder by hand.")
    shutil.move(trashed, target)
    return name


def reconcile(home: Path) -> None:
    """Bring rows and folders together: waiting folders get a row, rows whose process is gone are closed."""
    rows = store.jobs(home)
    folders = {run.name: run for run in list_runs(home)}
    for run in sorted((run for run in folders.values() if _marked(run) and run.name not in rows), key=_marked):
        store.put(home, run.name)
    for job in rows.values():
        if job.run not in folders:
            store.forget(home, job.run)
        elif job.place is Place.STARTED and not executor(job.executor).poll(job.handle):
            _close(home, folders[job.run], job)
        elif job.place is Place.STARTED and _deaf(folders[job.run]):
            executor(job.executor).stop(job.handle)


def _deaf(run: RunDir) -> bool:
    """Whether a run was asked to stop, and has neither stopped nor shown any sign of life for long."""
    try:
        asked = (run.path / "requests" / "stop").stat().st_mtime
    except FileNotFoundError:
        return False
    return time.time() - max(asked, run.status().heartbeat) > GRACE_SECONDS


def _marked(run: RunDir) -> float:
    """When the run was put into the queue; 0 when it does not wait."""
    try:
        return (run.path / "requests" / MARKER).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _close(home: Path, run: RunDir, job: Job) -> None:
    if run.status().heartbeat < job.started:  # it ended before its first word, so that nobody else can say why
        lines = run.log.read_text("utf-8", "replace").strip().splitlines() if run.log.exists() else []
        reason = lines[-1] if lines else "no output"
        run.write_status(
            State.FAILED, message=f"It ended before it began: {reason}", fix="The log says more. Then press Resume."
        )
    store.mark_ended(home, job.run)


def start_next(home: Path) -> None:
    """Start the first waiting run if none is being worked on."""
    if running(home) or not (job := store.take(home)):
        return
    run = RunDir(home / "runs" / job.run)
    now = time.time()
    store.mark_started(home, job.run, "", now)  # the lease before the process: a crash in between starts nothing twice
    handle = executor(job.executor).submit(run.path)
    store.set_handle(home, job.run, handle)
    run.take_request(MARKER)


def supervisor_lock(home: Path) -> FileLock:
    """The lock that the one supervisor of a home holds."""
    return FileLock(home / ".supervisor.lock", thread_local=False)


def ensure_supervisor(home: Path) -> None:
    """Start the supervisor unless one is there. It belongs to nobody: it outlives this process."""
    lock = supervisor_lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    lock.release()
    with (home / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "app.jobs.supervisor", str(home)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CODE_ROOT, env=environment(), **detached(),
        )  # fmt: skip
