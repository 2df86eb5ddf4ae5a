"""The supervisor: `python -P -m app.jobs.supervisor HOME`. It starts what waits and watches what runs.

One leads per home (see `leader`). It keeps nothing in memory that matters: kill it and the trainings go on, start
another and it finds them. It ends itself when nothing runs or waits and no page is served.

Every start has a token, written down before the process is there, which carries it. So a supervisor that comes after
one that died between the two finds the process, or knows that there is none; and nothing is started twice.
"""

import logging
import signal
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from app import owners
from app.jobs import presence, store, webhook
from app.jobs.executors import executor
from app.jobs.leader import supervisor_lock
from app.jobs.model import Job, Place
from app.jobs.queue import HELD, MARKER, running
from trainer.contract.card import card_lock, cards
from trainer.contract.rundir import ACTIVE, RunDir, State, list_runs

PERIOD = 0.7  # seconds between looks
PATIENCE = 3  # idle looks before it goes: a page that is being restarted finds it still there
GRACE_SECONDS = 120.0  # for a run that hangs; one that draws or saves shows that it lives


def reconcile(home: Path) -> None:
    """Bring rows and folders together: waiting folders get a row, rows whose process is gone are closed."""
    rows = store.jobs(home)
    folders = {run.name: run for run in list_runs(home)}
    for run in sorted((run for run in folders.values() if _marked(run) and run.name not in rows), key=_marked):
        store.put(home, run.name)
    for job in rows.values():
        if job.run not in folders:
            store.forget(home, job.run, job)
        elif job.place is Place.STARTED:
            _watch(home, folders[job.run], job)


def _watch(home: Path, run: RunDir, job: Job) -> None:
    """See to a run that was started."""
    body = executor(job.executor)
    if not job.handle:  # whoever started it died in the midst of that
        found = body.adopt(job.token)
        store.set_handle(home, job.run, job.token, found) if found else _begin_again(home, run, job)
    elif not body.poll(job.handle):
        _close(home, run, job)
    elif _deaf(run):
        body.stop(job.handle)
    elif run.asked(HELD) and not run.asked("stop") and run.status().state in ACTIVE:
        run.request("stop")  # it was paused before it listened


def _begin_again(home: Path, run: RunDir, job: Job) -> None:
    """Let a run wait again whose start came to nothing; unless somebody has stopped it meanwhile."""
    if run.asked(HELD) or run.asked("stop"):
        run.take_request(MARKER)
        run.take_request("stop")
        store.mark_ended(home, job.run, job.token)
    else:
        store.release(home, job.run, job.token)


def _deaf(run: RunDir) -> bool:
    """Whether a run was asked to stop, and has neither stopped nor shown any sign of life for long."""
    asked = _since(run, "stop")
    return bool(asked) and time.time() - max(asked, run.status().heartbeat) > GRACE_SECONDS


def _marked(run: RunDir) -> float:
    """When the run was put into the queue; 0 when it does not wait."""
    return _since(run, MARKER)


def _since(run: RunDir, request: str) -> float:
    """When something was asked of a run, seconds since 1970; 0 where it is not."""
    try:
        return (run.path / "requests" / request).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _close(home: Path, run: RunDir, job: Job) -> None:
    if run.status().heartbeat < job.started:  # it ended before its first word, so that nobody else can say why
        lines = run.log.read_text("utf-8", "replace").strip().splitlines() if run.log.exists() else []
        reason = lines[-1] if lines else "no output"
        run.write_status(
            State.FAILED, message=f"It ended before it began: {reason}", fix="The log says more. Then press Resume."
        )
    if store.mark_ended(home, job.run, job.token):
        webhook.tell(home, run)


def start_next(home: Path) -> None:
    """Start the runs whose turn it is: one on each card that is free, or one at a time on a machine without."""
    if not store.take(home):
        return  # the driver is not asked each second where nobody waits for its answer
    for card in _free(home):
        if not (job := _turn(home)):
            return
        run = RunDir(home / "runs" / job.run)
        token = store.claim(home, job.run, time.time(), card)
        if token:  # else it has left the queue meanwhile
            store.set_handle(home, job.run, token, executor(job.executor).submit(run.path, token, card))
            run.take_request(MARKER)


def _free(home: Path) -> list[str]:
    """The cards that nobody trains on; [""] where there is none and nothing runs."""
    known = cards()
    if not known:
        return [] if running(home) else [""]
    taken = {job.card for job in store.jobs(home).values() if job.place is Place.STARTED}
    return [card for card in known if card not in taken and not _held(card)]


def _held(card: str) -> bool:
    """Whether a training that the queue knows nothing of is on a card."""
    lock = FileLock(card_lock(card))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _turn(home: Path) -> Job | None:
    """The first waiting run of whoever has waited longest since a run of theirs was started: users take turns."""
    jobs = list(store.jobs(home).values())
    waiting = [job for job in jobs if job.place is Place.QUEUED]
    if len(waiting) < 2:
        return waiting[0] if waiting else None
    whose = {job.run: owners.owner(home / "runs" / job.run) for job in jobs}
    served = {name: max(job.started for job in jobs if whose[job.run] == name) for name in whose.values()}
    return min(waiting, key=lambda job: (served[whose[job.run]], job.position))


def step(home: Path) -> bool:
    """Look once and start what is due; return whether there is a reason to stay."""
    reconcile(home)
    start_next(home)
    return bool(running(home) or store.take(home) or presence.anyone(home))


def lead(home: Path) -> None:
    """Look again and again until there is no reason to stay."""
    idle = 0
    while idle < PATIENCE:
        try:
            idle = 0 if step(home) else idle + 1
        except Exception:  # one bad folder must not leave every other run without its supervisor
            logging.exception("a look at the queue failed; the next one is in a moment")
            idle += 1
        time.sleep(PERIOD)


def main(home: Path) -> None:
    """Lead this home if nobody does; look once more after letting go, for a submit that came in between."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        try:
            with supervisor_lock(home).acquire(timeout=2):
                lead(home)
        except Timeout:
            return
        if not store.take(home):
            return


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(Path(sys.argv[1]))
