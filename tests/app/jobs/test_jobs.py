"""The queue with real SQLite and real processes; only the trainer is a stand-in."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from filelock import Timeout

from app.jobs import presence, queue, store, supervisor
from app.jobs.executors import local
from app.jobs.model import Place, Shown
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.rundir import RunDir, State, steps

FAKE = Path(__file__).with_name("fake_supervisor.py")
CONFIG = compose([{"dataset": {"path": "somewhere"}}])


def start_supervisor(home: Path) -> "subprocess.Popen[bytes]":
    with (home / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(FAKE), str(home)], env=local.environment(), stdout=log, stderr=log, **local.detached()
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose supervisor, started by a submit, uses the stand-in; whatever is left is ended."""
    home = find_home(tmp_path / "home")
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: started.append(start_supervisor(home)))
    yield home
    for name, job in store.jobs(home).items():
        if job.handle and local.poll(job.handle):
            queue.force_stop(home, name)
    for process in started:
        process.kill()
        process.wait()


def wait(condition: Callable[[], object], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "this did not happen in time"
        time.sleep(0.05)


def plan(run: RunDir, **values: object) -> None:
    (run.path / "fake.json").write_text(json.dumps(values))


def submit(home: Path, name: str, **values: object) -> RunDir:
    """Submit, with a plan for the stand-in that is there before it starts."""
    run = queue.create_run(home, name, CONFIG)
    plan(run, **values)
    queue._enqueue(home, run)
    return run


def shown(home: Path, name: str) -> Shown:
    return queue.entry(home, name).shown


def test_a_submitted_run_is_trained_and_the_supervisor_goes_home(home: Path) -> None:
    run = queue.submit(home, "cat", CONFIG)
    assert shown(home, "cat") in (Shown.WAITING, Shown.STARTING)
    wait(lambda: shown(home, "cat") is Shown.DONE)
    assert "reading pictures" in run.log.read_text()
    assert not (run.path / "requests" / queue.MARKER).exists()
    wait(lambda: _free(home), 10)


def test_one_at_a_time_in_the_order_of_the_queue(home: Path) -> None:
    for name in ("a", "b", "c"):
        submit(home, name, steps=15, pause=0.05)
    queue.move(home, "c", up=True)
    seen_together = 0

    def all_done() -> bool:
        nonlocal seen_together
        items = queue.entries(home)
        seen_together = max(
            seen_together, sum(item.status.state in (State.TRAINING, State.PREPARING) for item in items)
        )
        return all(item.shown is Shown.DONE for item in items)

    wait(all_done, 40)
    assert seen_together == 1
    assert (RunDir(home / "runs/c")).status().heartbeat < RunDir(home / "runs/b").status().heartbeat


def test_a_run_survives_whoever_submitted_it_and_the_supervisor(home: Path) -> None:
    """A web server submits and dies; then the supervisor is killed too. A new one finds the run and waits for it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import test_jobs as t; "
        "home = Path(sys.argv[1]); t.queue.ensure_supervisor = t.start_supervisor; "
        "t.submit(home, 'long', steps=60, pause=0.1); t.os.kill(t.os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(home), str(Path(__file__).parent)], env=local.environment())
    assert died.returncode == -signal.SIGKILL
    wait(lambda: shown(home, "long") is Shown.TRAINING)
    leaders = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {str(home), str(FAKE)} <= set(process.info["cmdline"] or ())
    ]
    assert len(leaders) == 1
    leaders[0].kill()
    before = queue.entry(home, "long").status.step
    waiting = submit(home, "next", steps=2)
    wait(lambda: queue.entry(home, "long").status.step > before + 3)
    assert shown(home, "long") is Shown.TRAINING and shown(home, "next") is Shown.WAITING
    queue.stop(home, "long")
    wait(lambda: shown(home, "long") is Shown.STOPPED)
    wait(lambda: shown(home, "next") is Shown.DONE)
    assert waiting.status().state is State.DONE


def test_a_killed_run_shows_as_lost_and_goes_on_from_where_it_was(home: Path) -> None:
    run = submit(home, "victim", steps=20, die=7)
    wait(lambda: shown(home, "victim") is Shown.LOST)
    wait(lambda: store.jobs(home)["victim"].place is Place.ENDED)
    queue.resume(home, "victim")
    wait(lambda: shown(home, "victim") is Shown.DONE)
    assert list(steps(run)) == list(range(1, 21))
    assert store.jobs(home)["victim"].attempt == 2


def test_stop_saves_and_resume_goes_on(home: Path) -> None:
    submit(home, "pause", steps=200, pause=0.02)
    wait(lambda: queue.entry(home, "pause").status.step > 3)
    queue.stop(home, "pause")
    wait(lambda: shown(home, "pause") is Shown.STOPPED)
    step = queue.entry(home, "pause").status.step
    with pytest.raises(UserError, match="nothing to stop"):
        queue.stop(home, "pause")
    queue.resume(home, "pause")
    wait(lambda: queue.entry(home, "pause").status.step > step)
    queue.stop(home, "pause")
    wait(lambda: shown(home, "pause") is Shown.STOPPED)


def test_a_run_that_dies_without_a_word_says_what_was_printed(home: Path) -> None:
    submit(home, "mute", mute=True)
    wait(lambda: shown(home, "mute") is Shown.FAILED and "no such thing" in queue.entry(home, "mute").status.message)


def test_a_lost_database_is_rebuilt_from_the_folders(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    for name in ("one", "two", "three"):
        queue.submit(home, name, CONFIG)
        time.sleep(0.02)
    order = list(store.jobs(home))
    for path in home.glob("atelier.db*"):
        path.unlink()
    assert {item.shown for item in queue.entries(home)} == {Shown.NEW}
    queue.reconcile(home)
    assert list(store.jobs(home)) == order == ["one", "two", "three"]
    assert {item.shown for item in queue.entries(home)} == {Shown.WAITING}


def test_a_broken_database_is_put_aside(home: Path) -> None:
    store.put(home, "x")
    store.database(home).write_bytes(b"this is no database" * 1000)
    assert store.jobs(home) == {}
    assert (home / "atelier.broken.db").exists()


def test_a_run_from_a_terminal_shows_as_started_outside_and_holds_the_queue(home: Path) -> None:
    run = queue.create_run(home, "terminal", CONFIG)
    plan(run, steps=400, pause=0.05)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fake_trainer.py")), str(run.path)], env=local.environment()
    )
    try:
        wait(lambda: shown(home, "terminal") is Shown.TRAINING)
        assert queue.entry(home, "terminal").outside
        submit(home, "mine", steps=2)
        time.sleep(2)
        assert shown(home, "mine") is Shown.WAITING
        queue.stop(home, "terminal")
        assert process.wait(10) == 130
        wait(lambda: shown(home, "mine") is Shown.DONE)
    finally:
        process.kill()


def test_remove_can_be_undone_and_a_running_one_is_refused(home: Path) -> None:
    run = submit(home, "gone", steps=2)
    wait(lambda: shown(home, "gone") is Shown.DONE)
    trashed = queue.remove(home, "gone")
    assert not run.path.exists() and "gone" not in store.jobs(home)
    assert queue.restore(home, trashed) == "gone"
    assert shown(home, "gone") is Shown.DONE
    submit(home, "busy", steps=100, pause=0.05)
    wait(lambda: shown(home, "busy") is Shown.TRAINING)
    with pytest.raises(UserError, match="Stop it first"):
        queue.remove(home, "busy")


def test_a_waiting_run_leaves_the_queue_when_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    queue.submit(home, "later", CONFIG)
    queue.stop(home, "later")
    queue.reconcile(home)
    assert shown(home, "later") is Shown.NEW


def test_the_supervisor_stays_while_a_page_is_there(home: Path) -> None:
    with presence.present(home):
        assert supervisor.step(home)
    assert not supervisor.step(home)
    (home / ".web" / "1.json").write_text('{"handle": "1:12345"}')
    assert not presence.anyone(home) and not list((home / ".web").glob("*.json"))


def test_only_one_leads(home: Path) -> None:
    with presence.present(home):
        first = start_supervisor(home)
        try:
            wait(lambda: not _free(home))
            second = start_supervisor(home)
            assert second.wait(15) == 0
            assert first.poll() is None
        finally:
            first.kill()
            first.wait()


def _free(home: Path) -> bool:
    lock = queue.supervisor_lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def test_handles_do_not_fit_a_reused_process_number() -> None:
    own = local.handle_of(os.getpid())
    assert local.poll(own)
    assert not local.poll(f"{os.getpid()}:1.0")
    assert not local.poll("")
