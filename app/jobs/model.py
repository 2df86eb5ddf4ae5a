"""What a job is: one row of the queue; the states that people see, what follows what, and what may be done in each."""

from dataclasses import dataclass
from enum import StrEnum

from trainer.contract.errors import UserError
from trainer.contract.rundir import ACTIVE, State, Status


class Shown(StrEnum):
    """The state of a run as the page names it. `NEXT` has what may follow, `ALLOWED` what one may do."""

    NEW = "not started"
    WAITING = "waiting"  # in the queue
    STARTING = "starting"  # its process is there, and has not said a word
    PREPARING = "preparing"
    TRAINING = "training"
    NO_ROOM = "disk full"  # it goes on by itself when there is room
    PAUSING = "pausing"  # it saves, then lets go of the card
    STOPPING = "stopping"  # the same, for good
    PAUSED = "paused"  # nothing starts it until somebody resumes it
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"  # its process is gone without a word


GOING = (Shown.PREPARING, Shown.TRAINING, Shown.NO_ROOM)
ENDING = (Shown.PAUSING, Shown.STOPPING)
BUSY = (Shown.STARTING, *GOING, *ENDING)
RESUMABLE = (Shown.NEW, Shown.PAUSED, Shown.STOPPED, Shown.FAILED, Shown.LOST)
ENDED = (Shown.STOPPED, Shown.DONE, Shown.FAILED, Shown.LOST)
RESTING = (*RESUMABLE, Shown.DONE)

# State -> what may follow it, one change of the facts at a time. From a terminal a run begins without waiting.
NEXT: dict[Shown, frozenset[Shown]] = {
    **{state: frozenset({Shown.WAITING, Shown.PREPARING}) for state in RESTING},
    Shown.WAITING: frozenset({Shown.STARTING, *RESTING}),
    Shown.STARTING: frozenset({Shown.PREPARING, *ENDING, *ENDED, Shown.WAITING}),
    **{state: frozenset({*GOING, *ENDING, *ENDED} - {state}) for state in GOING},
    **{state: frozenset({*BUSY, *RESTING} - {state}) for state in ENDING},
}


class Act(StrEnum):
    """What one may do with a run."""

    STOP = "stop"
    FORCE = "force stop"
    PAUSE = "pause"
    RESUME = "resume"
    LONGER = "continue longer"
    DUPLICATE = "duplicate"
    REMOVE = "delete"
    MOVE = "move"


# What may be done -> in which states, and what to say in the others.
ALLOWED: dict[Act, tuple[tuple[Shown, ...], str]] = {
    Act.STOP: ((Shown.WAITING, *BUSY), "There is nothing to stop."),
    Act.FORCE: (ENDING, "Ask it to stop first: then it saves."),
    Act.PAUSE: ((Shown.WAITING, Shown.STARTING, *GOING), "Only a run that waits or runs can be paused."),
    Act.RESUME: (RESUMABLE, "Only a run that paused, stopped, failed or was lost can go on."),
    Act.LONGER: (RESTING, "Change its length under 'Change this run'."),
    Act.DUPLICATE: (tuple(Shown), ""),
    Act.REMOVE: ((Shown.WAITING, *RESTING), "Stop it first."),
    Act.MOVE: ((Shown.WAITING,), "Only runs that wait stand in an order."),
}


def may(act: Act, state: Shown) -> bool:
    """Whether something may be done with a run in a state."""
    return state in ALLOWED[act][0]


def check(act: Act, name: str, state: Shown) -> None:
    """Raises UserError, with what to do, where something may not be done with a run in its state."""
    if not may(act, state):
        raise UserError(f"'{name}' is {state}", act, ALLOWED[act][1])


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
        handle: what the executor needs to find the process again; empty before the start.
        started: when the process was started, seconds since 1970.
        attempt: how many times it was started.
        token: of the last start, a word that no other has: the process carries it, and whoever writes about a start
            that is not the last one any more is not heard.
        card: that the last start was given, by its driver's name; empty on a machine without one.
    """

    run: str
    place: Place = Place.QUEUED
    position: float = 0.0
    executor: str = "local"
    handle: str = ""
    started: float = 0.0
    attempt: int = 0
    token: str = ""
    card: str = ""


@dataclass(frozen=True)
class Asked:
    """What a run is asked for and has not done yet: by files in its folder."""

    stop: bool = False
    pause: bool = False


_WRITTEN = {
    State.CREATED: Shown.NEW,
    State.PREPARING: Shown.PREPARING,
    State.TRAINING: Shown.TRAINING,
    State.PAUSED: Shown.NO_ROOM,
    State.STOPPED: Shown.STOPPED,
    State.DONE: Shown.DONE,
    State.FAILED: Shown.FAILED,
    State.LOST: Shown.LOST,
}


def shown(job: Job | None, status: Status, process_alive: bool, asked: Asked) -> Shown:
    """Tell what to show.

    | job      | status.json                 | process | shown                                        |
    |----------|-----------------------------|---------|----------------------------------------------|
    | queued   | anything not running        |         | waiting                                      |
    | started  | older than the start        | alive   | starting; pausing or stopping if asked       |
    | started  | older than the start        | gone    | failed (it never said a word)                |
    | any      | preparing, training, paused | alive   | the same; pausing or stopping if asked       |
    | any      | preparing, training, paused | gone    | lost (`RunDir.status` says so)               |
    | none     | created, stopped            |         | paused if asked, else the same               |
    | any      | stopped, done, failed       |         | the same                                     |

    A run that goes on without a row, or with one that is not started, was started outside.
    """
    state = _WRITTEN[status.state]
    begun = job is not None and job.place is Place.STARTED
    if begun and job and status.state not in ACTIVE and status.heartbeat < job.started:
        there = process_alive or not job.handle  # between the start and word of it there is no handle
        state = Shown.STARTING if there else Shown.FAILED
    if state in BUSY:
        return Shown.PAUSING if asked.pause else Shown.STOPPING if asked.stop else state
    if job and job.place is Place.QUEUED:
        return Shown.WAITING
    return Shown.PAUSED if asked.pause and state in (Shown.NEW, Shown.STOPPED) else state
