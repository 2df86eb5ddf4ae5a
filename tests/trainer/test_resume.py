"""kill -9 at any moment, then resume: the same file, bit for bit."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.survival import differ, ended, killed, kills_of, rounds_to_come
from trainer.contract.compose import compose
from trainer.contract.rundir import RunDir, State, create_run

STEPS = 60


def make_run(home, base, pictures, **training) -> RunDir:
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "flip": True, "caption_dropout": 0.2},
        "adapter": {"rank": 4, "dropout": 0.1, "text_encoder": True},
        "training": {"steps": STEPS, "batch_size": 2, "save_every": "7", "threads": 1, **training},
        "sampling": {
            "every": "50%",
            "steps": 2,
            "prompts": ["a picture number 0", "a picture number 1"],
            "strengths": [1.0],
        },
    }
    return create_run(home, "run", compose([layer]))


def start(run: RunDir, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "train", str(run.path)], stdout=subprocess.DEVNULL, **kwargs
    )


def wait_for_step(run: RunDir, process: subprocess.Popen, step: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(event["kind"] == "step" and event["step"] >= step for event in run.events()):
            return
        time.sleep(0.005)


@pytest.mark.xdist_group("resume")
def test_killed_five_times_gives_the_same_file(tmp_path, tiny_sd, tiny_set):
    """A small count of what `python -m benchmarks.survival` does three hundred times."""

    def make(home: Path) -> RunDir:
        return make_run(home, tiny_sd, tiny_set, accumulation=4)

    whole = make(tmp_path / "whole")
    ending = ended(whole)
    assert differ(whole)
    broken, moments = make(tmp_path / "broken"), random.Random(11)
    hits = [killed(broken, kind, moments) for kind in ("accumulation", "saving", "accumulation", "saving")]
    assert sum(hits) >= 2, f"kills must hit a living run: {hits}"
    assert killed(broken, "sampling", moments)
    last = [event for event in broken.events() if event["kind"] == "sample"][-1]
    assert last["prompt"].endswith("0"), "the second prompt of the round was not drawn"
    assert ended(broken) == ending
    begins = [event["step"] for event in broken.events() if event["kind"] == "start"]
    assert any(0 < step < STEPS for step in begins), f"no kill left a half-done run to go on from: {begins}"


@pytest.mark.parametrize(("done", "to_come"), [(None, [0, 30, 60]), (0, [30, 60]), (30, [60]), (60, [60])])
def test_rounds_that_a_kill_can_wait_for(tmp_path, done, to_come):
    run = make_run(tmp_path, "base", "pictures")
    if done is not None:
        (run.checkpoints / f"step-{done:06d}").mkdir()
    assert rounds_to_come(run) == to_come


def test_every_fifth_run_is_killed_more_than_once():
    assert [kills_of(number) for number in range(10)] == [1, 1, 1, 1, 2, 1, 1, 1, 1, 5]


@pytest.mark.xdist_group("resume")
def test_a_polite_stop_saves_and_resume_gives_the_same_file(tmp_path, tiny_sd, tiny_set):
    whole = make_run(tmp_path / "whole", tiny_sd, tiny_set, steps=20)
    assert start(whole).wait() == 0
    stopped = make_run(tmp_path / "stopped", tiny_sd, tiny_set, steps=20)
    process = start(stopped)
    wait_for_step(stopped, process, 3)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert stopped.status().state == State.STOPPED
    assert 0 < stopped.status().step < 20
    assert start(stopped).wait() == 0
    assert stopped.adapter_file.read_bytes() == whole.adapter_file.read_bytes()


@pytest.mark.xdist_group("resume")
def test_a_full_disk_is_said_and_costs_nothing(tmp_path, tiny_sd, tiny_set):
    """A limit on file size stands in for the full disk: the same OSError path, and root cannot get around it."""
    run = make_run(tmp_path / "home", tiny_sd, tiny_set, steps=20, save_every="5")
    process = start(run)
    wait_for_step(run, process, 7)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 130
    kept = sorted(path.name for path in run.checkpoints.iterdir())

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start(run, preexec_fn=limited, stderr=subprocess.PIPE, text=True)
    said = process.communicate()[1]
    assert process.returncode == 2, said
    assert run.status().state == State.FAILED
    assert "file" in run.status().message and "resume" in run.status().fix
    assert sorted(path.name for path in run.checkpoints.iterdir()) == kept, (
        "what was saved before is untouched, nothing half written"
    )
    assert start(run).wait() == 0
    assert run.adapter_file.exists()
