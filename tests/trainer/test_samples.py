"""Sheets of strengths, and pictures that are asked for while a run goes on: drawn by the trainer, without a trace."""

import json

import pytest
import torch
from PIL import Image

from tests.tiny import make_tiny_sd
from tests.trainer.test_validation import hashed, new_run, told
from trainer import samples
from trainer.__main__ import main
from trainer.assemble import AssembledRun, assemble
from trainer.console import Reporter
from trainer.contract.amendments import ask
from trainer.contract.requests import SampleRequest, ask_sample, asked_samples
from trainer.contract.rundir import RunDir, State, continued, successor

SHEETS = {"sampling": {"every": "4", "steps": 2, "prompts": ["one", "two"], "strengths": [0.0, 0.5, 1.0]}}
NEVER = {"sampling": {"every": "never"}}


def pixels(run: RunDir, file: str) -> bytes:
    with Image.open(run.samples / file) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.parametrize("text_encoder", [False, True])
def test_a_sheet_shows_every_prompt_at_every_strength(tmp_path, tiny_sd, tiny_set, text_encoder):
    sections = {**SHEETS, "adapter": {"text_encoder": text_encoder}, "optimizer": {"learning_rate": 0.05}}
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, sections)
    assert main(["train", str(run.path)]) == 0
    found = {(one["step"], one["prompt"], one["strength"]): one for one in told(run, "sample")}
    assert set(found) == {(step, text, s) for step in (0, 4, 8) for text in ("one", "two") for s in (0, 0.5, 1)}
    assert {one["seed"] for one in found.values() if one["prompt"] == "two"} == {43}
    drawn = {place: pixels(run, one["file"]) for place, one in found.items()}
    for text in ("one", "two"):
        base = drawn[0, text, 0.0]
        assert base == drawn[0, text, 0.5] == drawn[0, text, 1.0], "before training there is nothing to fade"
        assert base == drawn[4, text, 0.0] == drawn[8, text, 0.0], "strength 0 stays the base"
        assert len({drawn[8, text, strength] for strength in (0.0, 0.5, 1.0)}) == 3


def test_the_base_is_drawn_once_and_nothing_twice(tmp_path, tiny_sd, tiny_set, monkeypatch):
    counted, real = [], samples.draw

    def counting(family, shot, texts, seed):
        counted.append((seed, len(texts)))
        return real(family, shot, texts, seed)

    monkeypatch.setattr(samples, "draw", counting)
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, SHEETS)
    assert main(["train", str(run.path)]) == 0
    assert counted == [(42, 1), (43, 1)] + [(42, 2), (43, 2)] * 2  # the start, then 0.5 and 1 alone
    assert len(told(run, "sample")) == 3 * 2 * 3


def test_a_run_that_goes_on_from_a_file_shows_what_it_has_learnt_before(tmp_path, tiny_sd, tiny_set):
    rate = {"optimizer": {"learning_rate": 0.05}}
    first = new_run(tmp_path, tiny_sd, tiny_set, {}, {**NEVER, **rate})
    assert main(["train", str(first.path)]) == 0
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, {**SHEETS, "adapter": {"start": str(first.adapter_file)}})
    assert main(["train", str(run.path)]) == 0
    begun = {one["strength"]: pixels(run, one["file"]) for one in told(run, "sample") if one["step"] == 0}
    assert len(set(begun.values())) == 3
    later = successor(tmp_path / "home", first, continued(first, SHEETS))
    assert main(["train", str(later.path)]) == 0
    begun = {one["strength"]: pixels(later, one["file"]) for one in told(later, "sample") if one["step"] == 0}
    assert len(set(begun.values())) == 3


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_a_strength_for_each_sample_is_what_a_scaled_adapter_answers(tmp_path, tiny_set, monkeypatch, linear, packed):
    if packed:
        from tests.trainer.test_lean_runs import make_lean  # noqa: PLC0415

        make_lean(monkeypatch)
    base = make_tiny_sd(tmp_path / "base", linear)
    run = assemble(new_run(tmp_path, base, tiny_set, {}, NEVER), Reporter(None))
    arena = run.adapter.arena
    arena.master.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    arena.publish()
    batch, strengths = run.batches.batch(0), torch.tensor([0.0, 0.5])
    noisy = run.objective.noisy(batch)
    with torch.no_grad():
        whole = run._predict(batch, noisy)
        with run.adapter.faded(strengths):
            faded = run._predict(batch, noisy)
        with run.adapter.off():
            off = run._predict(batch, noisy)
        for layer in run.adapter.layers.values():
            arena.view(arena.master, next(n for n in arena.parameters if arena.parameters[n] is layer.B)).mul_(0.5)
        arena.publish()
        half = run._predict(batch, noisy)
        with run.adapter.faded(torch.tensor([2.0])):
            again = run._predict(batch, noisy)
    torch.testing.assert_close(faded[0], off[0])
    torch.testing.assert_close(faded[1], half[1])
    torch.testing.assert_close(again, whole)
    assert not torch.allclose(off, whole, atol=1e-3)


def test_what_is_asked_is_drawn_between_two_steps_and_changes_nothing(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    quiet, asked = (new_run(tmp_path, tiny_sd, tiny_set, {}, NEVER) for _ in range(2))
    assert main(["train", str(quiet.path)]) == 0
    name = ask_sample(asked, SampleRequest(prompt="a cat", strengths=(0, 1), seed=7))
    (asked.path / "requests" / "sample-zz.json").write_text("{broken")
    (asked.path / "requests" / "sample-zy.json").write_text(json.dumps({"prompt": "x", "strengths": [99]}))
    assert main(["train", str(asked.path)]) == 0
    (answered,) = told(asked, "answered")
    assert answered["id"] == name and answered["step"] == 1 and not asked_samples(asked)
    assert [(one["prompt"], one["seed"], one["strength"]) for one in told(asked, "sample")] == [
        ("a cat", 7, 0.0),
        ("a cat", 7, 1.0),
    ]
    assert all(pixels(asked, file) for file in answered["files"])
    assert sorted(one["id"] for one in told(asked, "unanswered")) == ["zy", "zz"]
    assert asked.status().state == State.DONE and hashed(asked) == hashed(quiet)


def test_a_picture_that_fails_is_told_and_the_run_goes_on(tmp_path, tiny_sd, tiny_set, monkeypatch):
    def fail(*_):
        raise RuntimeError("no picture today")

    monkeypatch.setattr("trainer.samples.draw", fail)
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, NEVER)
    name = ask_sample(run, SampleRequest(prompt="a cat"))
    assert main(["train", str(run.path)]) == 0
    (event,) = told(run, "unanswered")
    assert event["id"] == name and "no picture today" in event["problem"] and run.adapter_file.exists()


def test_save_now_writes_a_checkpoint(tmp_path, tiny_sd, tiny_set):
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, NEVER, save_every="never")
    run.request("save")
    assert main(["train", str(run.path)]) == 0
    assert [event["step"] for event in told(run, "save")] == [1, 8]


def test_a_run_without_samples_can_be_given_some_while_it_runs(tmp_path, tiny_sd, tiny_set, monkeypatch):
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, NEVER)
    due = AssembledRun.due

    def asks(self, step):
        if step == 2:
            ask(run, {"sampling": {"every": "4", "strengths": [1.0]}})
        return due(self, step)

    monkeypatch.setattr(AssembledRun, "due", asks)
    assert main(["train", str(run.path)]) == 0
    assert sorted({event["step"] for event in told(run, "sample")}) == [4, 8]
    assert {event["strength"] for event in told(run, "sample")} == {1.0}


@pytest.mark.parametrize("text_encoder", [False, True])
def test_new_prompts_are_drawn_from_the_next_round_on(tmp_path, tiny_sd, tiny_set, monkeypatch, text_encoder):
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    run = new_run(tmp_path, tiny_sd, tiny_set, {}, {**SHEETS, "adapter": {"text_encoder": text_encoder}})
    due, changes = AssembledRun.due, {2: {"prompts": ["three"]}, 5: {"negative": "a picture number 0"}}

    def asks(self, step):
        if step in changes:
            ask(run, {"sampling": changes[step]})
        return due(self, step)

    monkeypatch.setattr(AssembledRun, "due", asks)
    assert main(["train", str(run.path)]) == 0
    base = {(one["step"], one["prompt"]): one["file"] for one in told(run, "sample") if one["strength"] == 0}
    assert set(base) == {(0, "one"), (0, "two"), (4, "three"), (8, "three")}
    assert len({pixels(run, base[place]) for place in ((0, "one"), (4, "three"), (8, "three"))}) == 3


def test_a_stop_is_heard_in_the_first_sheet_which_is_then_begun_anew(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run, real = new_run(tmp_path, tiny_sd, tiny_set, {}, SHEETS), samples.draw

    def stops(*given):
        run.request("stop")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(samples, "draw", stops)
        assert main(["train", str(run.path)]) == 130
    assert run.status().state == State.STOPPED and run.status().message == "Stopped before the first step."
    assert not told(run, "sample") and not list(run.checkpoints.iterdir())
    assert main(["train", str(run.path)]) == 0
    assert len([one for one in told(run, "sample") if one["step"] == 0]) == 6


@pytest.mark.parametrize("lean", [False, True])
def test_after_each_drawing_the_run_shows_that_it_lives(tmp_path, tiny_sd, tiny_set, lean):
    run = assemble(new_run(tmp_path, tiny_sd, tiny_set, {}, NEVER), Reporter(None))
    drawer, signs = run.chores.samples, []
    drawer.living, drawer._lean = (lambda: signs.append(1)), lean
    ask_sample(run.chores.run, SampleRequest(prompt="a cat", strengths=(0, 0.5, 1)))
    drawer.answer(1)
    assert len(signs) == (3 if lean else 1) and told(run.chores.run, "answered")
