"""The queue with real SQLite and real processes; only the trainer is a stand-in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from filelock import Timeout

from app.commands import jobs, runs
from app.jobs import leader, presence, queue, store, supervisor
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
    for job in store.jobs(home).values():
        if job.handle and local.poll(job.handle):
            local.stop(job.handle)
    for process in started:
        process.kill()
        process.wait()


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
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
    supervisor.reconcile(home)
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
    supervisor.reconcile(home)
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
    lock = leader.supervisor_lock(home)
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


def test_a_paused_run_lets_others_go_and_goes_on_first_when_it_is_resumed(home: Path) -> None:
    submit(home, "long", steps=400, pause=0.02)
    for name in ("next", "last"):
        submit(home, name, steps=40, pause=0.02)
    queue.pause(home, "last")
    wait(lambda: queue.entry(home, "long").status.step > 2)
    queue.pause(home, "long")
    assert shown(home, "long") in (Shown.PAUSING, Shown.PAUSED)
    wait(lambda: shown(home, "long") is Shown.PAUSED and shown(home, "next") is Shown.TRAINING)
    submit(home, "later", steps=2)
    queue.resume(home, "long")
    assert [job.run for job in store.jobs(home).values() if job.place is Place.QUEUED] == ["long", "later"]
    wait(lambda: shown(home, "later") is Shown.WAITING and shown(home, "long") is Shown.TRAINING)
    assert shown(home, "last") is Shown.PAUSED and not RunDir(home / "runs/last").status().step
    queue.stop(home, "long")
    wait(lambda: shown(home, "later") is Shown.DONE)


def test_a_process_that_was_started_is_found_by_its_token(home: Path) -> None:
    """A supervisor that dies between the start and word of it: the next one takes over what it began."""
    run = queue.create_run(home, "orphan", CONFIG)
    store.put(home, run.name)
    assert supervisor.executor("local").adopt("") == ""
    token = store.claim(home, run.name, time.time())
    assert shown(home, "orphan") is Shown.STARTING and not store.claim(home, run.name, time.time())
    handle = local.begin([sys.executable, "-c", "import time; time.sleep(60)"], run.log, run.log, token)
    try:
        supervisor.reconcile(home)
        assert store.jobs(home)["orphan"].handle == handle and local.poll(handle)
        assert not local.poll(handle.replace(token, "another")), "the same number and time, another start"
        assert not store.set_handle(home, run.name, "old", "1:1") and not store.mark_ended(home, run.name, "old")
        assert not store.put(home, run.name) and not store.forget(home, run.name), "seen before it was started"
    finally:
        local.stop(handle)
    again = store.claim(home, run.name, time.time())
    assert not again, "it does not wait"
    supervisor.reconcile(home)
    assert store.jobs(home)["orphan"].place is Place.ENDED


def test_a_start_that_came_to_nothing_is_made_again(home: Path) -> None:
    store.put(home, queue.create_run(home, "unborn", CONFIG).name)
    store.claim(home, "unborn", time.time())
    supervisor.reconcile(home)
    assert shown(home, "unborn") is Shown.WAITING


def test_the_order_of_the_queue_and_a_copy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    for name in ("a", "b", "c", "d"):
        queue.submit(home, name, CONFIG)

    def order() -> str:
        return "".join(job.run for job in store.jobs(home).values())

    queue.move(home, "d", up=True, far=True)
    assert order() == "dabc"
    queue.move(home, "d", up=False)
    queue.move(home, "b", up=False)
    assert order() == "adcb"
    queue.move(home, "b", up=False)
    assert order() == "adcb"
    copy = queue.duplicate(home, "a")
    assert copy.name == "a-2" and copy.config() == CONFIG and shown(home, "a-2") is Shown.NEW
    assert queue.duplicate(home, "a-2").name == "a-3" and order() == "adcb"
    with pytest.raises(UserError, match="not started"):
        queue.move(home, "a-2", up=True)


def test_a_database_of_an_older_version_is_brought_up_to_date(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(store, "MIGRATIONS", store.MIGRATIONS[:1])
        with store.connect(home) as connection:
            connection.execute("insert into jobs values ('old', 'queued', 1, 'local', '', 0, 2)")
    assert store.jobs(home)["old"].attempt == 2 and store.jobs(home)["old"].token == ""


def test_a_supervisor_that_is_killed_is_followed_by_another(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[subprocess.Popen[bytes]] = []
    one_looks = threading.Lock()  # whoever looks holds the lock for a moment: two would see each other

    def led() -> bool:
        with one_looks:
            return not _free(home)

    def ensure(home: Path) -> None:
        if not led():
            began.append(start_supervisor(home))
            wait(lambda: led() or began[-1].poll() is not None)  # it may be killed before anybody saw it lead

    monkeypatch.setattr(leader, "ensure_supervisor", ensure)
    with presence.present(home), leader.supervised(home, every=0.1):
        for number in range(3):
            wait(lambda number=number: len(began) == number + 1 and led())
            began[-1].kill()
            began[-1].wait()
        wait(lambda: len(began) == 4)
    began[-1].kill()
    began[-1].wait()


def test_the_command_line_pauses_deletes_and_brings_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    for name in ("a", "b"):
        queue.submit(home, name, CONFIG)
    jobs.pause("a", data_dir=home)
    runs.stop("b", data_dir=home)
    assert (shown(home, "a"), shown(home, "b")) == (Shown.PAUSED, Shown.NEW)
    jobs.delete("a", data_dir=home)
    assert not (home / "runs" / "a").exists()
    with pytest.raises(UserError, match="'b' is not in the trash"):
        jobs.restore("b", data_dir=home)
    jobs.restore("a", data_dir=home, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "a" and shown(home, "a") is Shown.PAUSED
    runs.runs(data_dir=home, as_json=True)
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert {row["name"]: row["shown"] for row in listed} == {"a": "paused", "b": "not started"}
