"""Run folders: never overwritten, readable after a crash."""

import json
import subprocess
import sys

import pytest

from trainer.contract.amendments import ask, pending, read_amendments, write_down
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir, State, create_run, find_run, list_runs, steps
from trainer.pictures.origin import changed_since, origin

CONFIG = compose([{"dataset": {"path": "p"}}])


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path):
    first, second, third = (create_run(tmp_path, "mine", CONFIG) for _ in range(3))
    assert [run.name for run in (first, second, third)] == ["mine", "mine-2", "mine-3"]
    assert first.config() == CONFIG
    assert {run.name for run in list_runs(tmp_path)} == {"mine", "mine-2", "mine-3"}


def test_a_torn_line_is_left_out_and_the_last_value_of_a_step_counts(tmp_path):
    run = create_run(tmp_path, "r", CONFIG)
    run.emit("step", step=1, loss=3.0)
    run.emit("step", step=2, loss=2.0)
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "step": 3, "lo')
    assert list(steps(run)) == [1, 2]
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write("\n")
    run.emit("step", step=2, loss=1.5)
    assert {number: event["loss"] for number, event in steps(run).items()} == {1: 3.0, 2: 1.5}


def test_a_run_whose_process_is_gone_is_lost(tmp_path):
    run = create_run(tmp_path, "r", CONFIG)
    code = (
        "import sys; from pathlib import Path; from trainer.contract.rundir import RunDir, State;"
        "RunDir(Path(sys.argv[1])).write_status(State.TRAINING, step=4, total=9)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)
    status = run.status()
    assert (status.state, status.step, status.total) == (State.LOST, 4, 9)
    assert json.loads((run.path / "status.json").read_text())["state"] == "training", "lost is read, never written"
    assert run.write_status(State.TRAINING).alive


def test_requests_are_taken_once(tmp_path):
    run = create_run(tmp_path, "r", CONFIG)
    assert not run.take_request("stop")
    run.request("stop")
    assert run.take_request("stop")
    assert not run.take_request("stop")


def test_an_unknown_run_names_the_ones_there_are(tmp_path):
    create_run(tmp_path, "here", CONFIG)
    with pytest.raises(UserError, match="here"):
        find_run(tmp_path, "there")


READS = {
    "config.toml": RunDir.config,
    "engine.json": RunDir.engine,
    "origin.json": changed_since,
    "requests/amend": pending,
    "amendments.jsonl": read_amendments,
}


@pytest.mark.parametrize("name, data", [
    (name, data) for name in READS for data in (b"", b"[{", b'{"a": "b', b"\xff")
    if data or name not in ("config.toml", "amendments.jsonl")  # of no lines, that one lacks a set, this one is whole
])  # fmt: skip
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, name, data):
    run = create_run(tmp_path, "a", compose([{"dataset": {"path": str(tmp_path)}}]))
    run.write_engine({"threads": 1})
    (run.path / "origin.json").write_text(json.dumps(origin(run.config())))
    write_down(run, ask(run, {"training": {"steps": 3}}))
    ask(run, {"training": {"steps": 4}})
    assert pending(run) and read_amendments(run) and not changed_since(run)
    path = run.path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{path.name} is damaged") as error:
        READS[name](run)
    assert error.value.where == str(path) and error.value.fix


@pytest.mark.parametrize("text", ["", '{"state": "trai', "[]", '{"step": 3}', '{"state": "unheard of"}'])
def test_a_run_with_a_damaged_status_is_lost_and_can_write_another(tmp_path, text):
    run = create_run(tmp_path, "a", compose([{"dataset": {"path": str(tmp_path)}}]))
    (run.path / "status.json").write_text(text)
    assert run.status().state == State.LOST and "status.json is damaged" in run.status().message
    run.write_status(State.STOPPED, step=3)
    assert (run.status().state, run.status().step) == (State.STOPPED, 3)
