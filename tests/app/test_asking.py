"""`atelier sample`, `atelier save` and `atelier train --like`, against a real training."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.app.test_commands import atelier, last_object
from trainer.contract.compose import compose
from trainer.contract.home import demo_folder
from trainer.contract.rundir import ACTIVE, State, create_run


@pytest.mark.xdist_group("resume")
def test_a_running_training_draws_and_saves_when_it_is_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    layer = {
        "model": {"base": "demo", "device": "cpu"},
        "dataset": {"path": str(demo_folder() / "style")},
        "training": {"steps": 5000, "batch_size": 1, "save_every": "never", "threads": 1},
        "sampling": {"every": "never"},
    }
    run = create_run(home, "run", compose([layer]))
    refused = atelier(home, "sample", "run", "--prompt", "cat face", "--json")
    assert refused.returncode == 2 and "not running" in refused.stderr
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "train", str(run.path)], stdout=subprocess.DEVNULL
    )
    try:
        while run.status().state not in ACTIVE:
            time.sleep(0.1)
        drawn = last_object(atelier(home, "sample", "run", "--prompt", "cat face", "--strengths", "0,1", "--json"))
        assert len(drawn["files"]) == 2 and all(Path(file).is_file() for file in drawn["files"])
        saved = last_object(atelier(home, "save", "run", "--json"))
        assert saved["checkpoints"] and (run.checkpoints / saved["checkpoints"][-1]).is_dir()
        assert run.status().state == State.TRAINING
        wrong = atelier(home, "sample", "run", "--prompt", "x", "--strengths", "half")
        assert wrong.returncode == 2 and "0,0.5,1" in wrong.stderr
    finally:
        process.kill()
        process.wait()


def test_settings_of_another_trainer_are_taken_and_what_is_not_is_said(tmp_path: Path) -> None:
    config = tmp_path / "kohya.toml"
    config.write_text("network_dim = 4\nmax_train_steps = 0\nunet_lr = 1e-3\nmixed_precision = 'fp16'\nseed = 9\n")
    given = ["--dataset", demo_folder() / "style", "--like", config, "--set", "training.steps=2"]
    done = atelier(tmp_path / "home", "train", *given, "--set", "sampling.every=never", "--json")
    assert done.returncode == 0, done.stderr
    assert "network_dim -> adapter.rank=4" in done.stderr
    assert "not taken: mixed_precision=fp16" in done.stderr
    stored = (Path(last_object(done)["run"]) / "config.toml").read_text()
    assert "rank = 4" in stored and "seed = 9" in stored
