"""The command line on real files: what it does, and what it says when it cannot."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from app.commands.machine import presets
from app.commands.processes import told_by
from app.jobs.wanting import Wish, build_config
from tests.tiny import make_pictures, make_tiny_sd
from trainer.contract.compose import parse_assignments
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir, State, steps
from trainer.formats.header import read_header
from trainer.pictures.album import read_folder


def atelier(home: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", "-m", "app", *map(str, arguments), "--data-dir", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def last_object(done: subprocess.CompletedProcess) -> dict:
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "sd")


def folder_that_is_no_model(tmp_path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    (folder / "notes.txt").write_text("hello")
    return folder


def pickled_checkpoint(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x02}q\x00.")
    return path


def broken_index(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda tmp: ["--base", folder_that_is_no_model(tmp)], ["nothing", "model_index.json", "notes.txt", "Hub id"]),
        (lambda tmp: ["--base", pickled_checkpoint(tmp)], ["model.ckpt", "pickle", "safetensors"]),
        (lambda tmp: ["--base", broken_index(tmp)], ["model_index.json", "broken"]),
        (lambda tmp: ["--base", tmp / "not-there"], ["not-there", "Hub id"]),
        (lambda tmp: ["--base", "x" * 300], ["cannot be a path"]),
        (lambda tmp: ["--base", "~nobody-of-that-name/x"], ["cannot be a path"]),
        (lambda tmp: ["--preset", "stile"], ["stile", "style", "subject"]),
        (lambda tmp: ["--length", "longest"], ["'longest'", "draft, good, best", "training.steps"]),
        (lambda tmp: ["--set", "adapter.rnak=4"], ["adapter.rnak", "adapter.rank"]),
        (lambda tmp: ["--set", "adapter.rank=0"], ["adapter.rank", "1"]),
        (lambda tmp: ["--set", "training.steps=10", "--set", "training.epochs=2"], ["exactly one"]),
        (
            lambda tmp: ["--set", "objective.weighting=debiased", "--set", "objective.snr_gamma=5"],
            ["objective.snr_gamma: has no effect with objective.weighting=debiased", "Leave it out"],
        ),
        (
            lambda tmp: ["--set", "objective.huber_c=0.2"],
            ["objective.huber_c: has no effect with objective.loss=l2", "set objective.loss=huber"],
        ),
        (lambda tmp: ["--set", "objective.prior=base"], ["objective.prior", "regularisation = true"]),
    ],
    ids=[
        "no model",
        "ckpt",
        "broken index",
        "no such base",
        "long",
        "no home",
        "preset",
        "length",
        "misspelt",
        "rank 0",
        "two lengths",
        "min-SNR and debiased",
        "no effect",
        "no regularisation",
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(tmp_path, pictures, arguments, words):
    done = atelier(tmp_path / "home", "train", "--dataset", pictures, "--json", *arguments(tmp_path))
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    told = last_object(done)
    assert told["ok"] is False and told["fix"]
    assert not list((tmp_path / "home" / "runs").iterdir()), "nothing was started"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None], ids=["empty folder", "no folder"])
def test_no_pictures(tmp_path, make):
    make(tmp_path / "empty")
    done = atelier(tmp_path / "home", "train", "--dataset", tmp_path / "empty")
    assert done.returncode == 2 and "pictures" in done.stderr and "Traceback" not in done.stderr


def test_sets_beside_the_first_are_found_by_name_too(tmp_path):
    first = make_pictures(tmp_path / "first", 1)
    second = make_pictures(tmp_path / "datasets" / "second", 1)
    asked = parse_assignments(['dataset.concepts=[{path="second", trigger="rull"}]'])
    config = build_config(tmp_path, Wish(str(first), assigned=asked))
    assert [(one.path, one.trigger) for one in config.dataset.concepts] == [(str(second.resolve()), "rull")]
    with pytest.raises(UserError, match="third"):
        asked = parse_assignments(['dataset.concepts=[{path="third"}]'])
        build_config(tmp_path, Wish(str(first), assigned=asked))


def test_what_cannot_be_trained_is_said_before_anything_is_made(tmp_path):
    pictures = make_pictures(tmp_path / "datasets" / "first", 1)
    with pytest.raises(UserError, match="given twice"):
        build_config(tmp_path, Wish(str(pictures), assigned=parse_assignments(['dataset.concepts=[{path="first"}]'])))
    with pytest.raises(UserError, match="made of tags"):
        build_config(tmp_path, Wish("first", assigned=parse_assignments(["dataset.tag_dropout=0.1"])))
    make_pictures(tmp_path / "datasets" / "prior" / "reg" / "1_dog", 1)
    with pytest.raises(UserError, match="nothing to learn"):
        build_config(tmp_path, Wish("prior"))


def test_a_plain_folder_is_read_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("app.jobs.wanting.open_album", lambda folder: read.append(folder) or read_folder(folder))
    folder = make_pictures(tmp_path / "set", 2)
    build_config(tmp_path, Wish(str(folder)))
    assert read == [folder]


@pytest.mark.parametrize(("asked", "wanted"), [("", "sks dog"), ("ohwx", "ohwx")])
def test_the_set_s_own_trigger_counts_unless_another_is_given(tmp_path, asked, wanted):
    make_pictures(tmp_path / "set" / "10_sks dog", 2)
    config = build_config(tmp_path, Wish(str(tmp_path / "set"), trigger=asked))
    assert config.dataset.trigger == wanted


def test_an_unreadable_picture_is_named_and_the_rest_is_trained(tmp_path, base):
    folder = make_pictures(tmp_path / "set", 3)
    whole = (folder / "1.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
    done = atelier(
        tmp_path / "home",
        "train",
        "--dataset",
        folder,
        "--base",
        base,
        "--name",
        "mine",
        "--json",
        "--set",
        "training.steps=3",
        "--set",
        "adapter.rank=2",
        "--set",
        "sampling.every=never",
    )
    assert done.returncode == 0, done.stderr
    told = last_object(done)
    assert told["state"] == "done" and told["step"] == 3
    events = [json.loads(line) for line in (Path(told["run"]) / "events.jsonl").read_text().splitlines()]
    assert [event["text"] for event in events if event["kind"] == "notice" and "bad.png" in event["text"]]
    assert next(event for event in events if event["kind"] == "start")["pictures"] == 3
    header = read_header(Path(told["adapter"]))
    assert header.metadata["ss_steps"] == "3" and header.metadata["ss_output_name"] == "mine"
    assert (folder / "bad.png").exists(), "the user's own file is left alone"

    shown = last_object(atelier(tmp_path / "home", "runs", "--json"))
    assert [(run["name"], run["state"]) for run in shown["runs"]] == [("mine", "done")]

    picture = tmp_path / "p.png"
    drawn = atelier(
        tmp_path / "home",
        "generate",
        "--prompt",
        "x",
        "--base",
        base,
        "--adapter",
        "mine:0.5",
        "--steps",
        2,
        "--out",
        picture,
        "--json",
    )
    assert drawn.returncode == 0, drawn.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    wrong = atelier(tmp_path / "home", "generate", "--prompt", "x", "--adapter", "nobody:1")
    assert wrong.returncode == 2 and "nobody" in wrong.stderr and "mine" in wrong.stderr


def test_a_dry_run_says_what_a_training_would_take_and_leaves_nothing(tmp_path, pictures, base):
    asked = ["train", "--dataset", pictures, "--base", base, "--dry-run", "--set", "training.steps=50"]
    done = atelier(tmp_path / "home", *asked, "--json")
    assert done.returncode == 0, done.stderr
    told = last_object(done)
    assert told["ok"] and told["steps_left"] == 50 and told["seconds_left"] > 50 * told["seconds_per_step"] > 0
    words = atelier(tmp_path / "home", *asked)
    assert words.returncode == 0 and "about" in words.stdout and "50 steps" in words.stdout, words.stderr
    assert "sample picture" in words.stdout
    assert "50 steps = 16.7 epochs = each picture seen 16.7 times · effective rate 0.0001" in words.stdout
    assert told["length"]["steps"] == 50 and told["rate"] == 1e-4
    wrong = atelier(tmp_path / "home", *asked, "--set", "model.clip_skip=9", "--json")
    problem = last_object(wrong)
    assert wrong.returncode == 2 and problem["where"] == "model.clip_skip" and problem["fix"]
    assert not list((tmp_path / "home" / "runs").iterdir())


def test_what_the_trainer_refuses_comes_through_whole_whatever_libraries_say(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "always")
    monkeypatch.setattr("app.commands.processes.trainer", lambda *said: [sys.executable, "-P", "-c", NOISY, *said])
    with pytest.raises(UserError) as caught:
        told_by("plan", str(tmp_path / "none"))
    assert caught.value == UserError(
        "this is not a run folder (no config.toml)", str(tmp_path / "none"), "List the runs: atelier runs"
    )


NOISY = """
import sys
sys.stderr.write("a library warns\\n")
from trainer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def children(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_dry_run_that_is_ended_leaves_no_process_and_no_folder(tmp_path, pictures, base, how):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-P", "-m", "app", "train", "--dataset", pictures, "--base", base, "--dry-run"]
    command += ["--set", "sampling.steps=200", "--data-dir", tmp_path / "home"]
    asked = subprocess.Popen(list(map(str, command)), env={**os.environ, "TMPDIR": str(scratch)})
    wait_until(lambda: list(scratch.glob("*/runs/*/engine.json")) and children(asked))
    started = children(asked)
    asked.send_signal(how)
    asked.wait(30)
    assert psutil.wait_procs(started, timeout=30)[1] == []
    if how == signal.SIGTERM:
        assert not list(scratch.iterdir())


def test_a_dry_run_says_that_a_training_runs_beside_it(tmp_path, pictures, base):
    run = RunDir(tmp_path / "home" / "runs" / "busy")
    run.path.mkdir(parents=True)
    (run.path / "config.toml").touch()
    run.write_status(State.TRAINING)  # signed by this process, which lives
    done = atelier(tmp_path / "home", "train", "--dataset", pictures, "--base", base, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert any("busy" in notice for notice in last_object(done)["notices"])


def test_generate_opens_the_base_as_it_is_told(tmp_path, base):
    drawn, asked = [], ["generate", "--prompt", "x", "--base", base]
    for flags in ([], ["--prediction", "v_prediction", "--zero-terminal-snr", "on"]):
        out = tmp_path / f"{len(drawn)}.png"
        done = atelier(tmp_path / "home", *asked, "--steps", 2, "--out", out, *flags)
        assert done.returncode == 0, done.stderr
        with Image.open(out) as image:
            drawn.append(image.tobytes())
    assert drawn[0] != drawn[1]
    wrong = atelier(tmp_path / "home", *asked, "--vae", tmp_path / "none.safetensors")
    assert wrong.returncode == 2 and "none.safetensors" in wrong.stderr and "Traceback" not in wrong.stderr


def wait_until(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.02)


def test_a_run_whose_terminal_is_killed_saves_and_goes_on_when_resumed(tmp_path, pictures, base):
    home = tmp_path / "home"
    settings = ["training.steps=400", "training.save_every=never", "adapter.rank=2", "sampling.every=never"]
    flags = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-P", "-m", "app", "train", "--dataset", pictures, "--base", base, "--name", "r", *flags]
    terminal = subprocess.Popen([*map(str, command), "--data-dir", str(home)])
    run = RunDir(home / "runs" / "r")
    wait_until(lambda: len(steps(run)) >= 3)
    terminal.kill()
    terminal.wait()
    wait_until(lambda: run.status().state == State.STOPPED)
    stopped = run.status().step
    assert 3 <= stopped < 400
    done = atelier(home, "resume", "r", "--json")
    assert done.returncode == 0, done.stderr
    assert next(event for event in reversed(list(run.events())) if event["kind"] == "start")["step"] == stopped
    assert last_object(done)["step"] == 400
    wrong = atelier(home, "resume", "r", "--set", "adapter.rank=4")
    assert wrong.returncode == 2 and "cannot change" in wrong.stderr
    wrong = atelier(home, "resume", "r", "--set", "training.steps=402", "--rate", "fast")
    assert wrong.returncode == 2 and "rewarm" in wrong.stderr
    longer = atelier(home, "resume", "r", "--set", "training.steps=402", "--rate", "rewarm", "--json")
    assert longer.returncode == 0 and last_object(longer)["step"] == 402, longer.stderr
    anew = atelier(home, "resume", "r", "--as-new", "--set", "training.steps=2", "--json")
    assert anew.returncode == 0 and (last_object(anew)["name"], last_object(anew)["step"]) == ("r-2", 2), anew.stderr


def test_inspect_and_export(tmp_path):
    missing = atelier(tmp_path, "export", tmp_path / "none.safetensors")
    assert missing.returncode == 2 and "none.safetensors" in missing.stderr


def test_lengths_and_a_rate_that_is_found_stand_between_preset_and_settings(tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "set", 2)
    views = {
        length: build_config(tmp_path, Wish(str(folder), length=length)).training.views
        for length in ("", "draft", "good", "best")
    }
    assert views["draft"] < views["good"] < views["best"] and views[""] == views["good"]
    assigned = {"training": {"steps": 7}, "adapter": {"rank": 4}}
    like = {"optimizer": {"name": "lion", "learning_rate": 3e-5}, "training": {"steps": 9}}
    config = build_config(tmp_path, Wish(str(folder), length="best", auto_rate=True, like=like, assigned=assigned))
    assert (config.training.steps, config.training.views, config.adapter.rank) == (7, None, 4)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("prodigy", 1.0)
    assert build_config(tmp_path, Wish(str(folder), length="best", like=like)).training.steps == 9
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prodigyopt" else find(name))
    with pytest.raises(UserError) as caught:
        build_config(tmp_path, Wish(str(folder), auto_rate=True))
    assert "prodigyopt" in caught.value.problem and caught.value.fix == "Run: python -m pip install prodigyopt"


@pytest.mark.parametrize("base", ["demo", "someone/sd", "someone/sdxl"])
def test_presets_are_told_with_what_they_take(base, capsys):
    presets(base, True)
    told = json.loads(capsys.readouterr().out)["presets"]
    assert {"style", "subject"} <= set(told)
    for one in told.values():
        assert one["when"] and one["memory"] and one["source"] and list(one["seconds"]) == ["draft", "good", "best"]
    presets(base, False)
    said = " ".join(capsys.readouterr().out.split())
    assert told["style"]["when"] in said and "20 pictures take about" in said


def test_settings_lists_every_setting():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app", "settings", "--json"], capture_output=True, text=True, check=True
    )
    found = last_object(done)["settings"]
    assert {"adapter.rank", "training.views", "sampling.prompts"} <= set(found)
    assert found["objective.loss"]["range"] == "l2, l1, huber, smooth_l1" and found["model.device"]["range"] == (
        "auto, cpu, cuda"
    )
    assert found["objective.huber_c"]["counts"] == ["only where objective.loss is huber or smooth_l1"]
