"""What a job is: one row of the queue, and the one table that turns facts into the state people see."""

from dataclasses import dataclass
from enum import StrEnum

from trainer.contract.rundir import State, Status


class Shown(StrEnum):
    """The state of a run as the page names it."""

    WAITING = "waiting"
    STARTING = "starting"
    PREPARING = "preparing"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    NEW = "not started"


BUSY = (Shown.STARTING, Shown.PREPARING, Shown.TRAINING, Shown.PAUSED, Shown.STOPPING)
RESUMABLE = (Shown.STOPPED, Shown.FAILED, Shown.LOST, Shown.NEW)


class Place(StrEnum):
    """Where a job stands in the queue."""

    QUEUED = "queued"
    STARTED = "started"
    ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """One row of the queue. What the run is doing is not here: the run folder knows.

    Attributes:
        run: name of the run folder under `<home>/runs`.
        place: queued, started or ended.
        position: order among the queued ones, smallest first.
        executor: row of `app.jobs.executors` that starts it.
        handle: what the executor needs to find the process again (`pid:created`); empty before the start.
        started: when the process was started, seconds since 1970.
        attempt: how many times it was started.
    """

    run: str
    place: Place = Place.QUEUED
    position: float = 0.0
    executor: str = "local"
    handle: str = ""
    started: float = 0.0
    attempt: int = 0


_WRITTEN = {
    State.CREATED: Shown.NEW,
    State.PREPARING: Shown.PREPARING,
    State.TRAINING: Shown.TRAINING,
    State.PAUSED: Shown.PAUSED,
    State.STOPPED: Shown.STOPPED,
    State.DONE: Shown.DONE,
    State.FAILED: Shown.FAILED,
    State.LOST: Shown.LOST,
}


def shown(job: Job | None, status: Status, process_alive: bool, stop_asked: bool) -> Shown:
    """Tell what to show.

    | job      | status.json                 | process | shown                          |
    |----------|-----------------------------|---------|--------------------------------|
    | queued   | anything not running        |         | waiting                        |
    | started  | older than the start        | alive   | starting                       |
    | started  | older than the start        | gone    | failed (it never said a word)  |
    | started  | preparing, training, paused | alive   | the same, or stopping if asked |
    | any      | preparing, training, paused | gone    | lost (`RunDir.status` says so) |
    | any      | stopped, done, failed       |         | the same                       |
    | none     | preparing, training, paused | alive   | the same ("started outside")   |
    """
    state = _WRITTEN[status.state]
    if state in (Shown.PREPARING, Shown.TRAINING, Shown.PAUSED):
        return Shown.STOPPING if stop_asked else state
    if job and job.place is Place.QUEUED:
        return Shown.WAITING
    if job and job.place is Place.STARTED and status.heartbeat < job.started:
        return Shown.STARTING if process_alive else Shown.FAILED
    return state
