"""How a run is going, from its folder: read on from where one was, torn lines left, repeated steps replaced."""

import json
from pathlib import Path

from app.jobs import queue
from app.views import progress
from trainer.contract.compose import compose
from trainer.contract.home import find_home
from trainer.contract.length import Length
from trainer.contract.preflight import Preflight
from trainer.contract.rundir import RunDir, State, create_run
from trainer.pictures.origin import ANOTHER_RUN


def run_in(tmp_path: Path) -> RunDir:
    return create_run(find_home(tmp_path / "home"), "r", compose([{"dataset": {"path": "here"}}]))


def test_it_reads_on_and_leaves_a_torn_line_for_later(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.emit("step", step=1, loss=0.5)
    run.emit("sample", step=1, file="x.png")
    assert list(progress.track(run).steps) == [1]
    whole = json.dumps({"kind": "step", "step": 2, "loss": 0.25, "time": 1.0}) + "\n"
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write(whole[:20])
    before = progress.track(run)
    assert list(before.steps) == [1]
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write(whole[20:])
    after = progress.track(run)
    assert after.steps[2] == (0.25, 1.0) and after.offset > before.offset


def test_a_step_that_comes_again_replaces_the_first_and_a_broken_line_is_no_step(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for line in (
        '{"kind": "step", "step": 1, "loss": 1, "time": 1}',
        '{"kind": "st',
        '{"kind": "step", "step": 1, "loss": 3, "time": 2}',
    ):
        with (run.path / "events.jsonl").open("a") as stream:
            stream.write(line + "\n")
    assert progress.track(run).steps == {1: (3.0, 2.0)}


def test_speed_and_time_left(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.write_status(State.TRAINING, step=100, total=200)
    found = progress.Track(0, {step: (1.0, step / 10) for step in range(1, 101)})
    assert abs(progress.speed(found) - 10) < 1e-6
    assert progress.time_left(queue.entry(run.path.parents[1], "r"), found) == "10 s"
    assert [progress.duration(value) for value in (59.6, 61, 3700)] == ["1 min 00 s", "1 min 01 s", "1 h 01 min"]


def test_names_and_messages_cannot_put_html_into_the_page(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.write_status(State.FAILED, message="<script>alert(1)</script>")
    assert "<script>" not in progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run))


def test_what_was_measured_and_what_should_be_known_stand_under_the_bar(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.write_status(State.TRAINING, step=1, total=100)
    item = queue.entry(run.path.parents[1], "r")
    assert "planned" not in progress.bar(item, progress.track(run))
    found = Preflight("half", 0.1, 2400, 500, 2, 8, 1, 249, 6 << 30, 6 << 30, 2 << 30, 8 << 30,
                      length=Length(100, 5.0, 20.0), rate=1e-4)  # fmt: skip
    run.emit("preflight", **found.as_dict())
    for number in range(5):
        run.emit("notice", text=f"notice {number} of <b>five</b>")
    shown = progress.bar(item, progress.track(run))
    assert "about 4 min · 10 steps/s · 6.0 of 8 GiB · half of the UNet&#x27;s blocks are computed again" in shown
    assert "2 sample pictures every 500 steps" in shown
    assert "100 steps = 5 epochs = each picture seen 20 times · effective rate 0.0001" in shown
    assert "notice 4 of &lt;b&gt;five" in shown and "notice 1" not in shown
    run.write_status(State.TRAINING, step=1, total=150)
    assert "planned" not in progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run)), (
        "of another length"
    )
    run.write_status(State.DONE, step=100, total=100)
    assert "planned" not in progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run))


def test_the_log_shows_a_redrawn_line_as_it_ended(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.log.write_bytes(b"begin\n10 %\r20 %\r30 %\nend\n")
    assert progress.log_tail(run) == "begin\n30 %\nend"


def test_a_refused_resume_is_told_without_the_words_of_the_command_line(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.write_status(State.FAILED, message=f"r: {ANOTHER_RUN}: a picture is gone", fix="atelier resume r --as-new")
    shown = progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run))
    assert "a picture is gone" in shown and "--as-new" not in shown and "as a new run" in shown


def test_the_length_that_a_run_was_begun_with_is_the_one_before_any_change(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for kind, step, total in (
        ("start", 0, 100), ("start", 40, 100), ("start", 0, 120), ("amended", 50, 200), ("start", 0, 200),
    ):  # fmt: skip
        run.emit(kind, step=step, total=total)
    assert progress.track(run).first == 120
