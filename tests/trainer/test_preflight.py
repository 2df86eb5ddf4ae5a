"""What is measured before the first step, and what follows from it: the words, the warnings, when samples are drawn."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from PIL import Image

from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.contract.card import CardProcess, NoAnswer, card_processes, held_by
from trainer.contract.config import ModelSection
from trainer.contract.ladder import RUNGS
from trainer.contract.length import Length
from trainer.contract.preflight import GIB, Preflight, about, pace, preflight_of
from trainer.contract.rundir import State
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.formats.clients.report import STRANGE
from trainer.preflight import Memory
from trainer.samples import Samples
from trainer.sampling import MOST_ROUNDS, SHARE, Rounds, Shot, affordable_rounds, denoise, encode_pairs, noise_sources
from trainer.state import load_latest


def sampled(run) -> list[int]:
    return [event["step"] for event in run.events() if event["kind"] == "sample"]


def preflight(run) -> Preflight:
    return preflight_of([event for event in run.events() if event["kind"] == "preflight"][-1])


def configured(home, base, pictures, sampling="auto", **training):
    """A run of the given rhythm of samples."""
    run = make_run(home, base, pictures, **training)
    text = (run.path / "config.toml").read_text()
    (run.path / "config.toml").write_text(text.replace('every = "50%"', f'every = "{sampling}"'))
    return run


def test_the_dry_step_leaves_no_trace(tmp_path, tiny_sd, tiny_set, monkeypatch):
    measured = make_run(tmp_path / "measured", tiny_sd, tiny_set, steps=5, accumulation=2)
    assert main(["train", str(measured.path)]) == 0
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 0.01)
    blind = make_run(tmp_path / "blind", tiny_sd, tiny_set, steps=5, accumulation=2)
    assert main(["train", str(blind.path)]) == 0
    assert preflight(blind).seconds_per_step == 0.01
    assert measured.adapter_file.read_bytes() == blind.adapter_file.read_bytes()


def test_it_is_told_before_the_first_step_and_again_on_resume(tmp_path, tiny_sd, tiny_set, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6)
    assert main(["train", str(run.path)]) == 0
    kinds = [event["kind"] for event in run.events()]
    assert kinds.index("sample") < kinds.index("preflight") < kinds.index("step")
    found = preflight(run)
    assert (found.steps_left, found.samples_every, found.samples_prompts, found.rung) == (6, 3, 2, "none")
    assert found.seconds_left == pytest.approx(
        6 * found.seconds_per_step + found.samples_seconds + found.saves_seconds, abs=0.01
    )
    assert found.samples_seconds > 0 and found.saves_seconds > 0 and found.total == 0
    assert about(found.seconds_left) in capsys.readouterr().out
    assert main(["train", str(run.path)]) == 0, "nothing is left to measure"
    assert len([event for event in run.events() if event["kind"] == "preflight"]) == 1


def test_a_plan_is_measured_without_a_step(tmp_path, tiny_sd, tiny_set, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6)
    assert main(["plan", str(run.path)]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    notice, rhythm = told.pop("notices")
    assert rhythm.startswith("training.save_every: every 7 steps is longer than the run of 6")
    assert notice.startswith("training.steps: 6 steps at an effective rate 0.0001 (0.0001 x alpha 4 / rank 4)")
    assert preflight_of(told) == preflight(run)
    assert preflight(run).length == Length(6, 2.0, 2.0) and preflight(run).rate == 1e-4
    assert load_latest(run) is None and not [event for event in run.events() if event["kind"] == "step"]


def test_a_plan_draws_one_picture(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6)
    assert main(["plan", str(run.path)]) == 0
    assert len(list(run.samples.iterdir())) == 1
    assert preflight(run).samples_prompts == 2, "what is foretold is of the run itself"


def test_a_plan_does_not_wait_for_a_training(tmp_path, tiny_sd, tiny_set, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6)
    with FileLock(run.path.parent / ".training.lock"):
        assert main(["plan", str(run.path)]) == 2
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "another training" in told["problem"] and told["where"] == run.name and "atelier stop" in told["fix"]


@pytest.mark.parametrize("prompts", [1, 2, 5])
@pytest.mark.parametrize("total", [1, 7, 300, 20_000])
@pytest.mark.parametrize("seconds", [1e-6, 0.01, 0.3, 4.0, 1000.0])
def test_samples_take_a_tenth_of_a_run_or_the_least_there_can_be(prompts, total, seconds):
    work = total * 0.1
    rounds = affordable_rounds(prompts, total, work, seconds)
    pictures = (1 + rounds.left(0, total)) * rounds.prompts * seconds
    least = rounds.prompts == 1 and rounds.left(0, total) == 1
    assert least or pictures <= SHARE * (work + pictures) + 1e-9
    assert 1 <= rounds.left(0, total) <= MOST_ROUNDS
    if seconds == 1e-6:
        assert (rounds.every, rounds.prompts) == (math.ceil(total / MOST_ROUNDS), prompts)


def test_rounds_that_are_left_are_those_that_come():
    for total in (1, 6, 7):
        for every in range(1, total + 1):
            rounds = Rounds(every, 1)
            for step in range(total):
                due = [s for s in range(step + 1, total + 1) if s == total or s % every == 0]
                assert rounds.left(step, total) == len(due)


def test_a_short_run_draws_few_samples_by_itself_and_many_where_it_is_told_to(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 1e-5)  # so that no picture can be afforded
    frugal = configured(tmp_path / "frugal", tiny_sd, tiny_set, steps=12)
    assert main(["train", str(frugal.path)]) == 0
    assert sampled(frugal) == [0, 0, 12]
    assert (preflight(frugal).samples_every, preflight(frugal).samples_prompts) == (12, 1)
    told = configured(tmp_path / "told", tiny_sd, tiny_set, "4", steps=12)
    assert main(["train", str(told.path)]) == 0
    assert sampled(told) == [0, 0, 4, 4, 8, 8, 12, 12]
    assert preflight(told).samples_every == 4


def test_a_long_run_draws_samples_at_every_fifth(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 1e5)
    run = configured(tmp_path, tiny_sd, tiny_set, steps=10)
    assert main(["train", str(run.path)]) == 0
    assert sorted(set(sampled(run))) == [0, 2, 4, 6, 8, 10] and len(sampled(run)) == 12


def test_samples_change_nothing_of_what_is_learnt(tmp_path, tiny_sd, tiny_set):
    states = []
    for every in ("never", "1", "auto"):
        run = configured(tmp_path / every, tiny_sd, tiny_set, every, steps=4)
        assert main(["train", str(run.path)]) == 0
        states.append((run.checkpoints / "step-000004" / "state.safetensors").read_bytes())
    assert states[0] == states[1] == states[2]


def test_a_resume_keeps_the_rhythm_of_the_samples(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = configured(tmp_path, tiny_sd, tiny_set, steps=12)

    def after_the_sheet(self, what):
        return what == "stop" and "samples" in self.engine()

    monkeypatch.setattr("trainer.__main__.RunDir.asked", after_the_sheet)
    assert main(["train", str(run.path)]) == 130
    stopped = run.status().step
    kept = {"every": 4, "prompts": 1, "seconds": 0.5}  # others than would be measured
    assert run.engine()["samples"].keys() == kept.keys()
    run.write_engine({**run.engine(), "samples": kept})
    monkeypatch.undo()
    assert main(["train", str(run.path)]) == 0
    assert sampled(run)[-3:] == [4, 8, 12] and run.engine()["samples"] == kept
    assert preflight(run).samples_seconds == pytest.approx(0.5 * 3) and stopped == 1


def test_samples_that_do_not_fit_are_tried_again_leaner_and_given_up_after_three(
    tmp_path, tiny_sd, tiny_set, monkeypatch
):
    """The first time memory is short the round is drawn again at once, with what the steps hold given up."""
    shots = []

    def fail(family, shot, texts, seed):
        shots.append(shot.lean)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trainer.samples.draw", fail)
    run = configured(tmp_path, tiny_sd, tiny_set, "1", steps=6)
    assert main(["train", str(run.path)]) == 0
    assert shots == [False, True, True, True]
    notices = [event["text"] for event in run.events() if event["kind"] == "notice"]
    said = [text for text in notices if not text.startswith("training.") and STRANGE not in text]
    assert len(said) == 4 and "drawn slower" in said[0] and "no more are tried" in said[-1]
    assert run.status().state == State.DONE


def test_where_memory_is_short_the_steps_give_theirs_up_before_every_later_round(
    tmp_path, tiny_sd, tiny_set, monkeypatch
):
    real, seen = Samples._sheet, []

    def draw(self, step):
        if not seen:
            self.make_room = lambda: seen.append(f"room at {step}")
        seen.append(step)
        if len(seen) == 1:
            raise RuntimeError("CUDA error: CUDNN_STATUS_ALLOC_FAILED")
        real(self, step)

    monkeypatch.setattr(Samples, "_sheet", draw)
    run = configured(tmp_path, tiny_sd, tiny_set, "3", steps=6)
    assert main(["train", str(run.path)]) == 0
    assert seen == [0, "room at 0", 0, "room at 0", 3, "room at 0", 6]
    assert sampled(run) == [0, 0, 3, 3, 6, 6]


def takes(monkeypatch, seconds, fails=()):
    """Let the rows of a round take so many seconds of the clock, and the rows of these numbers fail."""
    now, rows = [0.0], []
    monkeypatch.setattr("trainer.samples.time.monotonic", lambda: now[0])

    def draw(family, shot, texts, seed):
        rows.append(seed)
        if len(rows) in fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        now[0] += seconds[seed - rows[0]]
        return [Image.new("RGB", (8, 8)) for _ in texts]

    monkeypatch.setattr("trainer.samples.draw", draw)
    return rows


def test_the_budget_of_pictures_is_found_by_the_first_round_that_succeeds(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 1.0)
    takes(monkeypatch, [0.5, 0.5], fails=[1, 2])
    run = configured(tmp_path, tiny_sd, tiny_set, steps=20)
    assert main(["train", str(run.path)]) == 0
    assert run.engine()["samples"] == {"every": 20, "prompts": 2, "seconds": 0.5}
    assert sampled(run) == [4, 4, 20, 20]


def test_the_first_picture_warms_up_and_does_not_count(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 1.0)
    rows = takes(monkeypatch, [1000.0, 0.1])
    run = configured(tmp_path, tiny_sd, tiny_set, steps=20)
    assert main(["train", str(run.path)]) == 0
    assert rows[:2] == [42, 43] and run.engine()["samples"]["seconds"] == pytest.approx(0.1)
    assert run.engine()["samples"]["prompts"] == 2 and len(rows) == 12


def test_the_leaner_way_to_draw_draws_the_same(tiny_sd):
    family = load_family(ModelSection(base=str(tiny_sd)), Engine(torch.device("cpu"), torch.float32, 1))
    shot = Shot(64, 64, 3, 4.0, "DPM++ 2M")
    (text,) = encode_pairs(family, "blurry", ["a cat"])
    rows, predict = [], family.predict

    def watched(noisy, *rest):
        rows.append(len(noisy))
        return predict(noisy, *rest)

    family.predict = watched
    noise = noise_sources(family, shot, [1])[0]
    usual, lean = (denoise(family, replace(shot, lean=lean), noise, text) for lean in (False, True))
    assert rows == [2] * 3 + [1] * 6
    torch.testing.assert_close(lean, usual, rtol=1e-3, atol=1e-3)


CHROME = CardProcess(4711, "chrome", int(0.75 * GIB))


@pytest.mark.parametrize(
    ("reserved", "free", "processes", "spills", "words"),
    [
        (5, 18, (), True, ""),
        (23.5, 0.2, (), False, ""),
        (23.5, 0.2, (), True, "host memory"),
        (22.8, 0.2, (CHROME,), False, "chrome (0.8 GiB)"),
        (22.8, 0.2, (CHROME,), True, "host memory"),
    ],
)
def test_a_card_that_is_full_is_warned_of_and_who_fills_it(reserved, free, processes, spills, words):
    held = int(reserved * GIB)
    now = Memory(held, held, held, int(free * GIB), 24 * GIB, processes)
    assert words in now.short(spills) if words else now.short(spills) == ""


def test_words():
    found = Preflight("none", 1 / 12.9, 3000, None, 0, 0, 7, 240, 6 * GIB, int(6.2 * GIB), 17 * GIB, 24 * GIB)
    assert found.words() == "about 4 min · 12.9 steps/s · 6.2 of 24 GiB · nothing is computed again"
    assert found.lengths() == ""
    made = "0.0001 x alpha 1 / rank 16"
    long = replace(found, length=Length(300, 15.0, 60.0), rate=6.25e-6, rate_made=made)
    words = "300 steps = 15 epochs = each picture seen 60 times · effective rate 6.25e-06"
    assert long.lengths() == f"{words} ({made})" and replace(long, rate_made="").lengths() == words
    told = preflight_of(json.loads(json.dumps(long.as_dict())))
    assert (told.length, told.rate, told.rate_made) == (long.length, long.rate, made)
    before = {key: value for key, value in found.as_dict().items() if key not in ("length", "rate", "rate_made")}
    assert preflight_of(before).length is None, "events of earlier versions have no length"
    for name, row in RUNGS.items():
        assert replace(found, rung=name).words().endswith(row.words)
    assert [about(seconds) for seconds in (0.2, 70, 100, 3600, 7810)] == [
        "about 1 s", "about 70 s", "about 2 min", "about 1 h 00 min", "about 2 h 10 min"
    ]  # fmt: skip
    assert [pace(2.5), pace(0.5), pace(0.01)] == ["2.5 s a step", "2 steps/s", "100 steps/s"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver to ask")
def test_without_a_driver_there_is_a_reason_instead_of_a_list():
    assert isinstance(card_processes(), NoAnswer) and isinstance(card_processes("GPU-0"), NoAnswer)


def test_why_the_driver_did_not_answer_decides_what_to_do(monkeypatch):
    pynvml = pytest.importorskip("pynvml")
    errors = (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    for code, word in zip(errors, ("Restart", "Update"), strict=True):

        def fail(code=code):
            raise pynvml.NVMLError(code)

        monkeypatch.setattr(pynvml, "nvmlInit", fail)
        found = card_processes()
        assert found.fix.startswith(word) and "pip install" not in found.fix
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in card_processes().fix


def test_a_process_on_two_cards_is_counted_on_both_and_once_where_two_lists_have_it():
    def computing(card):
        return [SimpleNamespace(pid=1, usedGpuMemory=card), SimpleNamespace(pid=2, usedGpuMemory=None)]

    assert held_by([3 * GIB, 5 * GIB], (computing, computing)) == {1: 8 * GIB, 2: None}
