"""What the page does with trainings: submit, stop, pause, resume, order, remove; and the list of all that are known."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app import owners
from app.jobs import store
from app.jobs.executors import executor
from app.jobs.executors.local import stop_process
from app.jobs.leader import ensure_supervisor
from app.jobs.model import BUSY, Act, Asked, Job, Place, Shown, check, may, shown
from trainer.contract.amendments import Rate, ask, config_now
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rundir import ACTIVE, RunDir, Status, continued, create_run, find_run, list_runs, successor
from trainer.pictures.origin import check_succession

# In requests/: the run folder knows that it waits, or that it is not to be started, so that the queue can be rebuilt.
MARKER, HELD = "queued", "held"


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
    """Look at one run. Raises UserError where there is none among those that one may see."""
    if Path(name).name != name or name == "..":
        raise UserError(f"'{name[:100]}' is no name of a run", "run", "Choose one of the runs in the Queue tab.")
    run = find_run(home, name)
    owners.check(run.path)
    return _entry(run, store.jobs(home).get(name))


def known(home: Path, name: str) -> Entry | None:
    """Look at a run by its name, if there is one."""
    try:
        return entry(home, name) if name else None
    except UserError:  # it was removed meanwhile
        return None


def entries(home: Path) -> list[Entry]:
    """Look at every run one may see: the running ones, the waiting ones in their order, the others, newest first."""
    rows = store.jobs(home)
    found = [_entry(run, rows.get(run.name)) for run in list_runs(home) if owners.visible(run.path)]

    def rank(item: Entry) -> tuple[int, float]:
        if item.shown in BUSY:
            return 0, 0
        return (1, item.job.position) if item.shown is Shown.WAITING and item.job else (2, 0)

    return sorted(found, key=rank)  # stable: newest first stays within the last group


def _entry(run: RunDir, job: Job | None) -> Entry:
    status = run.status()
    alive = bool(job and job.handle and executor(job.executor).poll(job.handle))
    asked = Asked(run.asked("stop"), run.asked(HELD))
    outside = status.state in ACTIVE and not (job and job.place is Place.STARTED)
    return Entry(run, status, shown(job, status, alive, asked), job, outside)


def running(home: Path) -> Entry | None:
    """Return the run that is being worked on now, if any."""
    return next((item for item in entries(home) if item.shown in BUSY), None)


def submit(home: Path, name: str, config: RunConfig) -> RunDir:
    """Make a run folder and put it at the end of the queue. Raises UserError where it is to read what is not theirs."""
    owners.admit(config.model_dump())
    run = create_run(home, name, config)
    owners.sign(run.path)
    _enqueue(home, run)
    return run


def resume(home: Path, name: str) -> None:
    """Put a run that paused, stopped, failed or was lost back into the queue; it goes on from its last save.

    One that paused is next: its turn was not over.

    Raises:
        UserError: it is running, waiting, or done.
    """
    item = _checked(home, name, Act.RESUME)
    _again(home, item)


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
    item = _checked(home, name, Act.LONGER)
    ask(item.run, {"training": {"steps": total}}, rate)
    _again(home, item)


def go_on_as_new(home: Path, name: str) -> RunDir:
    """Put a new run into the queue that begins with what another has learned.

    Raises:
        UserError: the other run has saved nothing yet, or its settings are now of another adapter.
    """
    before = entry(home, name).run
    config = continued(before, {})
    check_succession(before, config)
    run = successor(home, before, config)
    owners.sign(run.path)
    _enqueue(home, run)
    return run


def duplicate(home: Path, name: str) -> RunDir:
    """Make a run with the settings that another has now, under a name of its own. It is not started yet.

    Raises:
        UserError: the other's settings are damaged, or name what is not theirs.
    """
    config = config_now(_checked(home, name, Act.DUPLICATE).run)
    owners.admit(config.model_dump())
    run = create_run(home, re.sub(r"-\d+$", "", name), config)
    owners.sign(run.path)
    return run


def _checked(home: Path, name: str, act: Act) -> Entry:
    """Look at a run that something is to be done with. Raises UserError where that may not be, see `ALLOWED`."""
    item = entry(home, name)
    check(act, name, item.shown)
    return item


def _again(home: Path, item: Entry) -> None:
    item.run.take_request("stop")  # one that its last process did not live to see
    item.run.take_request(HELD)
    _enqueue(home, item.run, item.job, first=item.shown is Shown.PAUSED)


def _enqueue(home: Path, run: RunDir, seen: Job | None = None, first: bool = False) -> None:
    if store.put(home, run.name, seen, first):
        run.request(MARKER)
    ensure_supervisor(home)


def stop(home: Path, name: str) -> str:
    """Stop a run: a waiting one leaves the queue, a running one saves first. Returns what happens, in words.

    Raises:
        UserError: it is not running or waiting.
    """
    item = _checked(home, name, Act.STOP)
    item.run.take_request(HELD)
    if _leave(home, item):
        return f"{name} left the queue."
    item.run.request("stop")
    return f"{name} stops after this step and saves."


def pause(home: Path, name: str) -> str:
    """Let a run save and leave the card to others; nothing starts it before `resume`. Returns what happens, in words.

    Raises:
        UserError: it is not running or waiting.
    """
    item = _checked(home, name, Act.PAUSE)
    item.run.request(HELD)
    if _leave(home, item):
        return f"{name} waits until you resume it."
    item.run.request("stop")
    return f"{name} saves after this step and pauses. Resume goes on from there."


def _leave(home: Path, item: Entry) -> bool:
    """Take a run out of the queue, if it waits there still."""
    left = item.shown is Shown.WAITING and store.drop(home, item.run.name)
    if left:
        item.run.take_request(MARKER)
    return left


def force_stop(home: Path, name: str) -> str:
    """End a run that does not answer; what was learned since its last save is lost.

    Raises:
        UserError: it was not asked to stop.
    """
    item = _checked(home, name, Act.FORCE)
    if item.outside:
        stop_process(item.status.pid, item.status.pid_started)
    elif item.job and item.job.handle:
        executor(item.job.executor).stop(item.job.handle)
    return f"{name} was ended. Resume goes on from the last save."


def move(home: Path, name: str, up: bool, far: bool = False) -> None:
    """Move a waiting run one place, or as far as it goes; past others' runs only who may see those.

    Raises:
        UserError: there is no such run among those that one may see, or it does not wait.
    """
    _checked(home, name, Act.MOVE)
    for other in list(_before(home, name, up))[: None if far else 1]:
        store.swap(home, name, other)


def _before(home: Path, name: str, up: bool) -> Iterator[str]:
    """Those that a waiting run may pass, the nearest first."""
    waiting = [job.run for job in store.jobs(home).values() if job.place is Place.QUEUED]
    waiting = waiting[::-1] if up else waiting
    for other in waiting[waiting.index(name) + 1 :] if name in waiting else []:
        if not owners.visible(home / "runs" / other):
            return
        yield other


def remove(home: Path, name: str) -> Path:
    """Move a run that is not running to the trash; return where it lies now. Nothing is ever deleted from there.

    Raises:
        UserError: it is running.
    """
    item = _checked(home, name, Act.REMOVE)
    item.run.take_request(MARKER)
    if not store.forget(home, name, item.job) or not may(Act.REMOVE, entry(home, name).shown):
        raise UserError(f"'{name}' was started just now", Act.REMOVE, "Stop it first.")
    target = trash(home) / f"{name}.{int(time.time() * 1000)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(item.run.path, target)
    return target


def trash(home: Path) -> Path:
    """Folder of the runs that were deleted."""
    return home / ".trash" / "runs"


def name_of(trashed: Path) -> str:
    """The name that a deleted run had."""
    return re.sub(r"\.\d+$", "", trashed.name)


def restore(home: Path, trashed: Path) -> str:
    """Bring back what `remove` put away; return the name.

    Raises:
        UserError: it is not in the trash any more, or its name is taken.
    """
    owners.check(trashed)
    name = name_of(trashed)
    target = home / "runs" / name
    if target.exists() or not trashed.is_dir():
        raise UserError(f"'{name}' cannot be brought back", str(trashed), "Look for it in the trash folder by hand.")
    shutil.move(trashed, target)
    return name
