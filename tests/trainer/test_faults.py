"""Faults are put into real runs: each ends as it is described, the next start succeeds, the last good file is there."""

import ctypes
import errno
import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tests.trainer.test_run import make_run
from trainer import state
from trainer.__main__ import main
from trainer.assemble import AssembledRun
from trainer.contract.checkpoints import fault, list_checkpoints
from trainer.contract.files import DiskFull, write_sign
from trainer.contract.pause import Pause
from trainer.contract.rundir import RunDir, State, steps
from trainer.state import load_latest

NAN = torch.nan


def notices(run: RunDir) -> list[str]:
    return [event["text"] for event in run.events() if event["kind"] == "notice"]


def broken_at(monkeypatch, wanted, what: str, number: float = NAN) -> None:
    """From now on these steps, counted from 1, come to no numbers: their `loss` or their `gradient`."""
    learn = AssembledRun.learn

    def broken(self, micro):
        loss = learn(self, micro)
        # The measured dry step takes the same way, with nothing kept of it.
        if micro // self.accumulation + 1 in wanted:
            if what == "loss":
                return loss * number
            self.adapter.arena.added[3] = number
        return loss

    monkeypatch.setattr(AssembledRun, "learn", broken)


@pytest.mark.parametrize(("what", "number"), [("loss", NAN), ("gradient", NAN), ("gradient", torch.inf)])
def test_a_step_without_numbers_is_left_out_and_its_pictures_named(
    tmp_path, tiny_sd, tiny_set, monkeypatch, capsys, what, number
):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4, accumulation=2, save_every="1")
    broken_at(monkeypatch, {3}, what, number)
    assert main(["train", str(run.path)]) == 0
    said = next(text for text in notices(run) if "step 3 was left out" in text)
    assert ".png" in said and said in capsys.readouterr().out
    assert list(steps(run)) == [1, 2, 4] and run.status().state == State.DONE
    found = load_latest(run)
    assert found.tensors["count"] == 3, "the optimiser never heard of it"
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())


def test_three_in_a_row_stop_at_the_last_finite_checkpoint(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run, whole = (make_run(tmp_path / name, tiny_sd, tiny_set, steps=9, save_every="1") for name in ("broken", "whole"))
    assert main(["train", str(whole.path)]) == 0
    with monkeypatch.context() as patch:
        broken_at(patch, range(4, 99), "loss")
        assert main(["train", str(run.path)]) == 2
    status = run.status()
    assert status.state == State.FAILED and "3 steps in a row" in status.message and "learning rate" in status.fix
    assert load_latest(run).step == 3 == load_latest(run).tensors["count"], "none is saved while steps are lost"
    assert not run.adapter_file.exists()
    assert main(["train", str(run.path)]) == 0, "the next start goes on"
    assert all(tensor.isfinite().all() for tensor in load_latest(run).tensors.values())


def test_two_in_a_row_do_not_stop_it(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=7)
    broken_at(monkeypatch, {2, 3, 5, 6}, "loss")
    assert main(["train", str(run.path)]) == 0
    assert list(steps(run)) == [1, 4, 7]


class Full:
    """The disk is full from some write on: every write that the system is asked for there fails, until it is freed."""

    def __init__(self, monkeypatch, run: RunDir, after: int) -> None:
        self.left, self.refused = after, 0
        real = {name: getattr(os, name) for name in ("fsync", "mkdir", "rename", "replace")}
        opened, saved = Path.open, state.save_file

        def refuse(path) -> None:
            if not str(path).startswith(str(run.path)) or str(path).endswith("log.txt"):
                return
            self.left -= 1
            if self.left < 0:
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        def opens(path, mode="r", *args, **kwargs):
            if set(mode) & set("wax"):
                refuse(path)
            return opened(path, mode, *args, **kwargs)

        def makes(path, *args, **kwargs):
            refuse(path)
            return real["mkdir"](path, *args, **kwargs)

        def saves(tensors, path, *args, **kwargs):
            try:
                refuse(path)
            except OSError as error:
                raise SafetensorError(f"I/O error: No space left on device (os error {error.errno})") from None
            return saved(tensors, path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opens)
        monkeypatch.setattr(os, "mkdir", makes)
        monkeypatch.setattr(state, "save_file", saves)

    def free(self) -> None:
        self.left = 10**9


def test_a_full_disk_pauses_the_run_wherever_it_is_and_it_ends_with_the_same_file(
    tmp_path, tiny_sd, tiny_set, monkeypatch, capsys
):
    whole = make_run(tmp_path / "whole", tiny_sd, tiny_set, steps=3, save_every="1")
    assert main(["train", str(whole.path)]) == 0
    wanted, after, paused = whole.adapter_file.read_bytes(), 0, 0
    monkeypatch.setattr("trainer.contract.pause.LOOK_SECONDS", 0.0)
    while True:
        run = make_run(tmp_path / str(after), tiny_sd, tiny_set, steps=3, save_every="1")
        with monkeypatch.context() as patch:
            full = Full(patch, run, after)
            wait = Pause.wait

            def watched(self, error, full=full, wait=wait, run=run):
                again = wait(self, error)
                assert all(fault(path) == "" for path in list_checkpoints(run.checkpoints))
                full.free()
                return again

            patch.setattr(Pause, "wait", watched)
            assert main(["train", str(run.path)]) == 0
        assert run.adapter_file.read_bytes() == wanted, f"after {after} writes"
        assert run.status().state == State.DONE
        assert list(steps(run)) == [1, 2, 3], "not an event is lost"
        if not full.refused:
            break
        paused += "paused: the disk is full" in capsys.readouterr().out
        after += 7
    assert paused >= 3, "it was full in the middle of the run too"


def test_a_stop_is_heard_while_the_disk_is_full(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6, save_every="2")
    seen = []

    def wait(self, error, real=Pause.wait):
        seen.append(run.status().state)
        run.request("stop")
        return real(self, error)

    with monkeypatch.context() as patch:
        patch.setattr(Pause, "wait", wait)
        written = state._write
        patch.setattr(state, "_write", lambda final, *rest: written(final, *rest) if "4" not in final.name else
                      (_ for _ in ()).throw(DiskFull("the disk is full", str(final), "free some")))  # fmt: skip
        assert main(["train", str(run.path)]) == 2
    assert seen == [State.TRAINING] and run.status().state == State.FAILED
    assert "disk is full" in capsys.readouterr().err and load_latest(run).step == 2
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.exists()


def test_a_status_is_written_over_the_old_one_where_there_is_no_room(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    path.write_text('{"state": "training", "step": 100000}')

    def full(*_):
        raise DiskFull("full")

    monkeypatch.setattr("trainer.contract.files._replace", full)
    write_sign(path, '{"state": "paused"}')
    assert json.loads(path.read_text()) == {"state": "paused"}


def test_out_of_memory_on_the_last_rung_ends_with_advice_and_the_next_run_succeeds(
    tmp_path, tiny_sd, tiny_set, monkeypatch, capsys
):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6, save_every="2")
    learn = AssembledRun.learn

    def short(self, micro):
        if micro == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return learn(self, micro)

    with monkeypatch.context() as patch:
        patch.setattr(AssembledRun, "learn", short)
        assert main(["train", str(run.path)]) == 2
    assert "too little memory" in capsys.readouterr().err and run.status().state == State.FAILED
    assert load_latest(run).step == 2
    run.write_engine({**run.engine(), "rung": "none"})
    other = make_run(tmp_path, tiny_sd, tiny_set, steps=2)
    assert main(["train", str(other.path)]) == 0, "the next run"
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.exists()


@pytest.mark.parametrize("sleep", [time.sleep, lambda seconds: ctypes.PyDLL(None).usleep(int(1e6 * seconds))],
                         ids=["one thread", "all of Python"])  # fmt: skip
def test_a_run_that_hangs_leaves_its_stacks_in_the_log(tmp_path, tiny_sd, tiny_set, monkeypatch, sleep):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=2)
    monkeypatch.setattr("trainer.chores.STALL_SECONDS", 0.2)
    monkeypatch.setattr("trainer.chores.STALL_STEPS", 0)
    learn = AssembledRun.learn

    def hangs(self, micro):
        if micro == 1 and "hangs" not in run.log.read_text():
            sleep(0.6)
        return learn(self, micro)

    monkeypatch.setattr(AssembledRun, "learn", hangs)
    assert main(["train", str(run.path)]) == 0
    assert "in hangs" in run.log.read_text()
