"""The states of a job, by everything that can happen to one, in any order: what follows what, what may be done when,
and that nothing is ever started twice, whoever dies in between."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.jobs import executors, queue, store, supervisor
from app.jobs.model import ALLOWED, BUSY, NEXT, RESUMABLE, Act, Place, Shown, may
from tests.app.jobs import pretend
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.rundir import ACTIVE, RunDir, State

CONFIG = compose([{"dataset": {"path": "somewhere"}, "training": {"steps": 100}}])
NAMES = ("a", "b")
ACTS = {
    Act.STOP: queue.stop,
    Act.FORCE: queue.force_stop,
    Act.PAUSE: queue.pause,
    Act.RESUME: queue.resume,
    Act.LONGER: lambda home, name: queue.go_on_longer(home, name, 200, "hold"),
    Act.MOVE: lambda home, name: queue.move(home, name, up=True),
}


class Life(RuleBasedStateMachine):
    """Two runs, a user, a supervisor that may die at any moment, and trainers that do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.home = find_home(Path(self.folder.name) / "home")
        pretend.living.clear()
        for name in NAMES:
            queue.submit(self.home, name, CONFIG)
        self.last = self.states()

    def teardown(self) -> None:
        self.folder.cleanup()

    def run_of(self, name: str) -> RunDir:
        return RunDir(self.home / "runs" / name)

    def states(self) -> dict[str, Shown]:
        return {name: queue.entry(self.home, name).shown for name in NAMES}

    def processes(self, name: str) -> list[str]:
        return [handle for handle, folder in pretend.living.items() if folder.name == name]

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def somebody_acts(self, name: str, data: st.DataObject) -> None:
        before = self.states()[name]
        allowed = [act for act in ACTS if may(act, before)]
        for act in set(ACTS) - set(allowed):
            with pytest.raises(UserError, match=before.value):
                ACTS[act](self.home, name)
        assert self.states()[name] is before, "what may not be done changes nothing"
        ACTS[data.draw(st.sampled_from(allowed))](self.home, name)

    @rule(name=st.sampled_from(NAMES))
    def somebody_deletes_and_brings_back(self, name: str) -> None:
        before = self.states()[name]
        if not may(Act.REMOVE, before):
            with pytest.raises(UserError):
                queue.remove(self.home, name)
            return
        queue.restore(self.home, queue.remove(self.home, name))
        if before is Shown.WAITING:
            self.last[name] = Shown.WAITING
        else:
            after = self.states()[name]
            silent = before is Shown.FAILED and after in RESUMABLE  # one that never said a word this time
            assert after is before or silent
            self.last[name] = after

    @precondition(lambda self: any(job.place is not Place.ENDED for job in store.jobs(self.home).values()))
    @rule()
    def the_supervisor_looks(self) -> None:
        waiting = {name for name, state in self.states().items() if state is Shown.WAITING}
        supervisor.reconcile(self.home)
        self.see()
        supervisor.start_next(self.home)
        begun = {name for name, state in self.states().items() if state is Shown.STARTING}
        assert begun <= waiting | {name for name in NAMES if self.last[name] in (Shown.STARTING, Shown.WAITING)}

    @precondition(lambda self: store.take(self.home) and not queue.running(self.home))
    @rule(after_the_start=st.booleans())
    def the_supervisor_dies_in_the_midst_of_a_start(self, after_the_start: bool) -> None:
        job = store.take(self.home)
        assert job
        token = store.claim(self.home, job.run, time.time())
        if after_the_start:
            pretend.submit(self.run_of(job.run).path, token, "")

    @precondition(lambda self: pretend.living)
    @rule(data=st.data(), state=st.sampled_from(ACTIVE))
    def a_trainer_goes_on(self, data: st.DataObject, state: State) -> None:
        run = RunDir(pretend.living[data.draw(st.sampled_from(sorted(pretend.living)))])
        first_word = run.status().state not in ACTIVE
        run.write_status(State.PREPARING if first_word else state, step=5, total=100)

    @precondition(lambda self: pretend.living)
    @rule(data=st.data(), state=st.sampled_from([State.DONE, State.FAILED, None]))
    def a_trainer_ends(self, data: st.DataObject, state: State | None) -> None:
        handle = data.draw(st.sampled_from(sorted(pretend.living)))
        run = RunDir(pretend.living[handle])
        if state or run.asked("stop"):
            run.write_status(state or State.STOPPED, step=5, total=100)
            self.see()
            run.take_request("stop")
        elif run.status().state in ACTIVE:
            run.write_status(run.status().state, pid=0)  # killed: not a word more
        pretend.stop(handle)

    def see(self) -> None:
        now = self.states()
        for name in NAMES:
            follows = now[name] in NEXT[self.last[name]]
            assert now[name] is self.last[name] or follows, f"{self.last[name]} -> {now[name]}"
        self.last = now

    @invariant()
    def what_follows_is_in_the_table_and_nothing_runs_twice(self) -> None:
        self.see()
        assert len(pretend.living) <= 1, "one at a time"
        for job in store.jobs(self.home).values():
            waits = self.run_of(job.run).asked(queue.MARKER)
            assert waits or job.place is not Place.QUEUED or job.attempt, "the folder knows that it waits"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(executors.EXECUTORS, "local", "tests.app.jobs.pretend")
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    monkeypatch.setattr(queue, "stop_process", lambda pid, created: None)  # the trainers here write as this process


@pytest.mark.usefixtures("pretended")
def test_whatever_happens() -> None:
    case = Life.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=30, deadline=None, phases=[Phase.generate],
                             suppress_health_check=list(HealthCheck))  # fmt: skip
    case().runTest()


def test_the_tables_are_whole() -> None:
    assert set(NEXT) == set(Shown) and set(ALLOWED) == set(Act)
    assert all(state not in after for state, after in NEXT.items())
    assert not may(Act.REMOVE, Shown.TRAINING) and all(not may(Act.REMOVE, state) for state in BUSY)
    assert all(may(Act.RESUME, state) or may(Act.LONGER, state) or state in (Shown.WAITING, *BUSY) for state in Shown)
