"""A run's length, checkpoints and samples change while it runs or on resume, and are replayed bit for bit."""

import shutil
import threading
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.test_run import make_run
from trainer import assemble
from trainer.__main__ import main
from trainer.assemble import AssembledRun
from trainer.contract.amendments import Amendment, ask, joined, pending, place, read_amendments
from trainer.contract.checkpoints import list_checkpoints
from trainer.contract.errors import UserError
from trainer.contract.length import Length
from trainer.contract.preflight import Preflight
from trainer.contract.rundir import RunDir, State, steps


def change(step: int, total: int, rate: str = "hold") -> Amendment:
    return Amendment(f"{step}", {}, rate, step, total)


@given(st.integers(1, 10**6), st.data())
def test_a_run_that_was_never_changed_stands_where_it_is(total, data):
    step = data.draw(st.integers(0, total - 1))
    assert place(total, (), step) == (step, total)


@given(st.integers(2, 1000), st.data())
def test_stretching_never_jumps_and_never_goes_back(total, data):
    at = data.draw(st.integers(1, total - 1))
    new = data.draw(st.integers(at + 1, 3000))
    changes = [change(at, new)]
    path = [place(total, changes, step)[0] for step in range(new)]
    assert path[: at + 1] == [float(step) for step in range(at + 1)], "what was done is as it was"
    assert path == sorted(path) and path[-1] <= total - 1
    widest = max(after - before for before, after in pairwise(path))
    assert widest <= max(1, (total - at) / (new - at) + 1e-6)


def test_after_the_end_the_rate_is_held_or_begins_anew():
    assert [place(10, [change(10, 14)], step) for step in (9, 10, 13)] == [(9, 10)] * 3
    assert [place(10, [change(10, 14, "rewarm")], step) for step in (9, 10, 13)] == [(9, 10), (0, 4), (3, 4)]
    assert place(10, [change(10, 12), change(12, 20, "rewarm")], 11) == (9, 10), "a later one changes nothing before"


def test_warming_up_again_counts_where_the_length_stays():
    assert [place(10, [change(6, 10, "rewarm")], step) for step in (5, 6, 9)] == [(5, 10), (0, 4), (3, 4)]
    assert place(10, [change(6, 10)], 7) == (7, 10), "held it goes on as it was"
    early = [change(6, 10), change(10, 10, "rewarm")]
    assert place(10, early, 9) == (9, 10)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=5), st.integers(2, 30))
def test_the_rate_never_steps_back_where_a_run_has_fallen_back_behind_a_change(made, first):
    changes = ()
    for step, more in made:
        changes = joined(changes, change(step, step + more))
    assert [one.step for one in changes] == sorted(one.step for one in changes)
    last = changes[-1].total if changes else first
    path = [place(first, changes, step)[0] for step in range(last)]
    assert all(after >= before - 1e-9 for before, after in pairwise(path))


def test_longer_on_resume_and_again_after_a_loss(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path / "a", tiny_sd, tiny_set, steps=4, save_every="2")
    assert main(["train", str(run.path)]) == 0
    short = run.adapter_file.read_bytes()
    ask(run, {"training": {"steps": 8, "save_every": "1"}}, "rewarm")
    assert main(["train", str(run.path)]) == 0
    wanted = run.adapter_file.read_bytes()
    assert wanted != short and list(steps(run)) == list(range(1, 9)) and run.status().total == 8
    assert [(one.step, one.total, one.rate) for one in read_amendments(run)] == [(4, 8, "rewarm")]
    rates = [event["rate"] for event in steps(run).values()]
    assert rates[4] > rates[3], "it begins anew"
    assert run.config().training.steps == 4, "what was asked at first stays written"
    run.adapter_file.unlink()
    for path in list_checkpoints(run.checkpoints)[-2:]:
        shutil.rmtree(path)
    assert main(["train", str(run.path)]) == 0
    assert run.adapter_file.read_bytes() == wanted
    assert len(read_amendments(run)) == 1


def test_changed_while_it_runs_and_replayed_from_before_the_change(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4, save_every="2")
    due = AssembledRun.due

    def asks(self, step):
        if step == 3 and not read_amendments(run):
            ask(run, {"training": {"steps": 7}, "sampling": {"every": "5"}})
        return due(self, step)

    monkeypatch.setattr(AssembledRun, "due", asks)
    assert main(["train", str(run.path)]) == 0
    assert [(one.step, one.total) for one in read_amendments(run)] == [(3, 7)] and run.status().step == 7
    assert list(run.samples.glob("s000005*")) and not list(run.samples.glob("s000004*"))
    wanted, before = run.adapter_file.read_bytes(), steps(run)
    run.adapter_file.unlink()
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    assert main(["train", str(run.path)]) == 0, "from the beginning, with the change at its step"
    assert run.adapter_file.read_bytes() == wanted
    assert [(e["loss"], e["rate"]) for e in steps(run).values()] == [(e["loss"], e["rate"]) for e in before.values()]


def test_a_schedule_is_looked_up_once_a_length_and_changes_are_read_once(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4, save_every="2")
    calls = []

    def counted(name):
        real = getattr(assemble, name)
        monkeypatch.setattr(assemble, name, lambda *given: calls.append((name, *given[1:])) or real(*given))

    counted("share")
    counted("read_amendments")
    assert main(["train", str(run.path)]) == 0
    assert calls == [("read_amendments",), ("share", 4)]
    ask(run, {"training": {"steps": 9}}, "rewarm")
    calls.clear()
    assert main(["train", str(run.path)]) == 0
    assert calls == [("read_amendments",), ("share", 5)]


@pytest.mark.parametrize("length", [{"steps": 3}, {"steps": 6}, {"epochs": 3}, {"views": 3}])
def test_a_length_that_leaves_nothing_to_do_is_refused(tmp_path, tiny_sd, tiny_set, length):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6, save_every="2")
    run.emit("preflight", **asdict(Preflight("none", 1, 0, None, 0, 0, 0, 0, length=Length(6, 3, 3))))
    (run.checkpoints / "step-000006").mkdir()
    with pytest.raises(UserError, match="it has done 6 steps already"):
        ask(run, {"training": length})
    run.write_status(State.TRAINING, step=7)
    with pytest.raises(UserError, match="7 steps already"):
        ask(run, {"training": {"steps": 7}})
    assert pending(run) is None and ask(run, {"training": {"steps": 8}}).total == 0


@pytest.mark.parametrize("changes", [{"adapter": {"rank": 8}}, {"training": {"batch_size": 9}}])
def test_what_would_make_it_another_run_is_refused(tmp_path, tiny_sd, tiny_set, changes):
    run: RunDir = make_run(tmp_path, tiny_sd, tiny_set)
    with pytest.raises(UserError, match="cannot change once a run has begun"):
        ask(run, changes)
    with pytest.raises(UserError):
        ask(run, {"training": {"steps": -1}})
    assert not run.asked("amend")


def test_what_was_asked_before_stays_asked(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set)
    ask(run, {"training": {"steps": 90}, "sampling": {"steps": 3}})
    assert ask(run, {"training": {"views": 2}}).changes == {"training": {"views": 2}, "sampling": {"steps": 3}}
    ask(run, {"training": {"steps": 40}}, "rewarm")
    assert ask(run, {"training": {"save_every": "5"}}).rate == "rewarm", "it belongs to the length"
    assert ask(run, {"training": {"steps": 50}}).rate == "hold"


def test_what_is_asked_while_a_change_is_taken_is_not_lost(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run, asked = make_run(tmp_path, tiny_sd, tiny_set, steps=3), []

    def meanwhile(*given, real=assemble.write_down):
        if not asked:
            asked.append(threading.Thread(target=ask, args=(run, {"sampling": {"every": "3"}})))
            asked[0].start()
            asked[0].join(0.3)
        return real(*given)

    monkeypatch.setattr(assemble, "write_down", meanwhile)
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    due = AssembledRun.due
    monkeypatch.setattr(AssembledRun, "due", lambda self, step: [one.join() for one in asked] and due(self, step))

    ask(run, {"training": {"save_every": "2"}})
    assert main(["train", str(run.path)]) == 0
    said = [one.changes for one in read_amendments(run)]
    assert said == [{"training": {"save_every": "2"}}, {"sampling": {"every": "3"}}]
