"""Held-out pictures in whole runs: never trained on, measured the same in every run, and without a trace."""

import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tests.tiny import make_pictures
from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.assemble import AssembledRun, assemble
from trainer.console import Reporter
from trainer.contract.amendments import ask
from trainer.contract.checkpoints import list_checkpoints
from trainer.contract.compose import compose
from trainer.contract.requests import SampleRequest, ask_sample
from trainer.contract.rundir import RunDir, State, create_run, steps
from trainer.loop import train as loop
from trainer.samples import Samples
from trainer.validation import Bands, HeldOut


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("set") / "pictures", 10)


def new_run(home, base, pictures, validation, sections=None, **training) -> RunDir:
    layer = {
        "model": {"base": str(base), "device": "cpu"},
        "dataset": {"path": str(pictures), "flip": True, "caption_dropout": 0.2},
        "adapter": {"rank": 4, "dropout": 0.1},
        "training": {"steps": 8, "batch_size": 2, "save_every": "4", "threads": 1, **training},
        "sampling": {"every": "never"},
        "validation": validation,
    }
    return create_run(home, "run", compose([layer, sections or {}]))


def told(run: RunDir, kind: str) -> list[dict]:
    return [event for event in run.events() if event["kind"] == kind]


def hashed(run: RunDir) -> str:
    with safe_open(run.adapter_file, "pt") as file:
        return file.metadata()["sshs_model_hash"]


def assembled(home, base, pictures, **sections) -> AssembledRun:
    return assemble(new_run(home, base, pictures, {"share": 0.3}, sections), Reporter(None))


def test_held_out_pictures_are_in_no_batch_and_no_prompt(tmp_path, tiny_sd, pictures):
    run = assembled(tmp_path, tiny_sd, pictures)
    cache = run.chores.cache
    assert len(cache.held) == 3 and len(cache.pictures) == 7
    assert not {row.digest for row in cache.held} & {row.digest for row in cache.pictures}
    kept = {run.batches.texts[text] for row in cache.held for text in row.texts}
    for micro in range(3 * run.batches.order.batches_per_epoch):
        assert not kept & set(run.batches.batch(micro).captions.tolist())
    assert not {row.texts[0] for row in cache.held} & set(run.chores.samples.prompts)
    assert {row.digest for row in assembled(tmp_path, tiny_sd, pictures).chores.cache.held} == {
        row.digest for row in cache.held
    }


def test_the_measure_does_not_depend_on_the_objective_the_seed_or_the_batch(tmp_path, tiny_sd, pictures):
    plain = assembled(tmp_path, tiny_sd, pictures).chores.validation.held.measure()
    other = assembled(
        tmp_path,
        tiny_sd,
        pictures,
        objective={"weighting": "min_snr", "loss": "l1", "noise_offset": 0.1, "max_timestep": 0.5},
        training={"seed": 5, "steps": 8, "batch_size": 3},
        adapter={"dropout": 0.5, "rank": 2},
    ).chores.validation.held.measure()
    assert other[0] == pytest.approx(plain[0], rel=1e-4) and other[1] == pytest.approx(plain[1], rel=1e-4)
    assert len(plain[1]) == 4 and sum(plain[1]) / 4 == pytest.approx(plain[0])


def test_what_looks_the_same_is_held_out_with_it(tmp_path, tiny_sd, pictures):
    twice = shutil.copytree(pictures, tmp_path / "twice")
    for path in sorted(twice.glob("*.png")):
        Image.open(path).save(twice / f"again-{path.stem}.jpg", quality=95)
    cache = assembled(tmp_path, tiny_sd, twice).chores.cache
    held = {row.name.removeprefix("again-").partition(".")[0] for row in cache.held}
    assert held and len(cache.held) == 2 * len(held)
    assert not held & {row.name.removeprefix("again-").partition(".")[0] for row in cache.pictures}


def test_what_a_held_out_picture_is_measured_with_does_not_depend_on_the_run(tmp_path, tiny_sd, pictures):
    tagged = shutil.copytree(pictures, tmp_path / "tagged")
    for path in tagged.glob("*.txt"):
        path.write_text("1girl, red hair, smile, tree, sky")
    found = set()
    for seed, dropout in ((0, 0.0), (1, 0.5)):
        wild = {"dataset": {"shuffle": "on", "tag_dropout": dropout, "trigger": "zork"}, "training": {"seed": seed}}
        run = assembled(tmp_path / str(seed), tiny_sd, tagged, **wild)
        found |= {text for row in run.chores.cache.held for text in row.texts}
    assert found == {"zork, 1girl, red hair, smile, tree, sky"}


def test_it_is_the_squared_error_of_the_noise(tmp_path, tiny_sd, pictures):
    run = assembled(tmp_path, tiny_sd, pictures)
    held = run.chores.validation.held
    batch = held._batch(next(held._asked()))
    share = run.objective.signal[batch.timesteps].view(-1, 1, 1, 1)
    noisy = share.sqrt() * batch.clean + (1 - share).sqrt() * batch.noise
    with torch.no_grad():
        answer = run.family.predict(noisy, batch.timesteps, run.text.pick(batch.captions), batch.sizes)
    torch.testing.assert_close(run.errors(batch), (answer - batch.noise).square().mean((1, 2, 3)))
    assert torch.equal(batch.noise, held._batch(next(held._asked())).noise)


@pytest.mark.parametrize("text_encoder", [False, True])
def test_measuring_changes_nothing_of_what_is_learnt(tmp_path, tiny_sd, pictures, text_encoder):
    sections = {"adapter": {"text_encoder": text_encoder}}
    runs = [
        new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": every}, sections) for every in ("never", "1", "3")
    ]
    for run in runs:
        assert main(["train", str(run.path)]) == 0
    assert len({hashed(run) for run in runs}) == 1
    assert [[event["step"] for event in told(run, "validation")] for run in runs] == [
        [],
        list(range(9)),
        [0, 3, 6, 8],
    ]
    first, last = told(runs[1], "validation")[0], told(runs[1], "validation")[-1]
    assert first["training"] is None and len(last["bands"]) == 4 and last["loss"] > 0
    assert first["loss"] == told(runs[2], "validation")[0]["loss"]


def test_bands_of_what_is_trained_on_are_told(tmp_path, tiny_sd, pictures):
    run = new_run(tmp_path, tiny_sd, pictures, {}, steps=40)
    assert main(["train", str(run.path)]) == 0
    found = told(run, "bands")
    assert [event["step"] for event in found] == list(range(2, 41, 2)) and not told(run, "validation")
    known = [loss for event in found for loss in event["bands"] if loss is not None]
    assert len(known) > 40 and all(0 < loss < 10 for loss in known)


def test_bands_are_means_of_what_fell_into_them():
    bands = Bands(1000, torch.device("cpu"))
    bands.add(torch.tensor([0, 249, 250, 999]), torch.tensor([1.0, 3.0, 5.0, 7.0]))
    bands.add(torch.tensor([500]), torch.tensor([float("nan")]))
    assert bands.take() == (2.0, 5.0, None, 7.0) and bands.take() == (None,) * 4


def test_a_measurement_that_fails_does_not_end_the_run(tmp_path, tiny_sd, pictures, monkeypatch):
    calls = []

    def fail(self, batch):
        calls.append(len(batch.clean))
        raise RuntimeError("no number today") if len(calls) > 1 else torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AssembledRun, "errors", fail)
    run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "2"})
    assert main(["train", str(run.path)]) == 0 and run.status().state == State.DONE
    notices = [event["text"] for event in told(run, "notice") if "held-out" in event["text"]]
    assert calls == [2, 1] and "picture by picture" in notices[0] and "no number today" in notices[1]


def scripted(monkeypatch, losses):
    """Let the measurements give these losses, the last one for ever."""
    given = iter(losses)
    monkeypatch.setattr(
        "trainer.validation.HeldOut.measure", lambda self: ((loss := next(given, losses[-1])), (loss,) * 4)
    )


def test_it_ends_early_where_it_is_asked_to_and_makes_its_file(tmp_path, tiny_sd, pictures, monkeypatch):
    scripted(monkeypatch, [1.0, 0.5, 0.6, 0.7, 0.1])
    run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "1", "stop_after": 2}, steps=20)
    assert main(["train", str(run.path)]) == 0
    assert run.status().state == State.DONE and max(steps(run)) == 3 and run.adapter_file.exists()
    whole = run.adapter_file.read_bytes()
    run.adapter_file.unlink()
    assert main(["train", str(run.path)]) == 0, "it was killed before its file was written"
    assert max(steps(run)) == 3 and run.adapter_file.read_bytes() == whole


def test_after_an_early_end_it_goes_on_where_somebody_gives_it_a_longer_length(
    tmp_path, tiny_sd, pictures, monkeypatch
):
    scripted(monkeypatch, [1.0, 0.5, 0.6, 0.7, 0.8, 0.9])
    run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "1", "stop_after": 2}, steps=20)
    assert main(["train", str(run.path)]) == 0 and run.status().total == 3
    ask(run, {"sampling": {"steps": 3}})
    assert main(["train", str(run.path)]) == 0 and max(steps(run)) == 3, "only a length makes it go on"
    ask(run, {"training": {"steps": 30}})
    assert main(["train", str(run.path)]) == 0
    assert max(steps(run)) == 5 and run.status().state == State.DONE, "and patience counts from there"
    whole = run.adapter_file.read_bytes()
    run.adapter_file.unlink()
    for path in list_checkpoints(run.checkpoints):
        shutil.rmtree(path)
    assert main(["train", str(run.path)]) == 0, "from the beginning, with the change at its step"
    assert max(steps(run)) == 5 and run.adapter_file.read_bytes() == whole


def test_what_is_measured_and_drawn_is_the_average_where_there_is_one(tmp_path, tiny_sd, pictures, monkeypatch):
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    seen = []
    measure, draw = HeldOut.measure, Samples._asked

    def master(run):
        return run.adapter.arena.master.clone()

    made = assemble(
        new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "2"}, {"export": {"ema": True}}, ema=0.9, steps=4),
        Reporter(None),
    )

    def looked(what, real):
        def look(self, *arguments):
            average = made.optimizer.shown()  # none before the first step
            seen.append((what, average is None or torch.equal(master(made), average)))
            return real(self, *arguments)

        return look

    monkeypatch.setattr(HeldOut, "measure", looked("measured", measure))
    monkeypatch.setattr(Samples, "_asked", looked("drawn", draw))
    ask_sample(made.chores.run, SampleRequest(prompt="a cat", strengths=(1,)))
    assert loop(made) and not torch.equal(master(made), made.optimizer.shown())
    assert {what for what, _ in seen} == {"measured", "drawn"} and all(averaged for _, averaged in seen)


def test_each_part_is_told_its_rate(tmp_path, tiny_sd, pictures):
    sections = {
        "adapter": {"text_encoder": True, "text_encoder_until": "2"},
        "optimizer": {"learning_rate": 1e-3, "text_encoder_learning_rate": 2e-4, "lora_plus_ratio": 16},
        "schedule": {"name": "constant", "warmup": "0"},
    }
    run = new_run(tmp_path, tiny_sd, pictures, {}, sections, steps=4)
    assert main(["train", str(run.path)]) == 0
    both, one = {"unet": pytest.approx(1e-3), "text_encoder": pytest.approx(2e-4)}, {"unet": pytest.approx(1e-3)}
    assert [event["rates"] for event in steps(run).values()] == [both, both, one, one]
    assert all(event["rate"] == event["rates"]["unet"] for event in steps(run).values())


def test_it_does_not_end_by_itself(tmp_path, tiny_sd, pictures, monkeypatch):
    scripted(monkeypatch, [0.1, *(0.5 + 0.01 * step for step in range(30))])
    run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "1"}, steps=12)
    assert main(["train", str(run.path)]) == 0 and max(steps(run)) == 12


def test_a_resume_goes_on_with_the_rounds_before_it(tmp_path, tiny_sd, pictures, monkeypatch):
    run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "2"}, steps=8)
    run.request("stop")
    monkeypatch.setattr("trainer.__main__.RunDir.asked", lambda self, what: what == "stop")
    assert main(["train", str(run.path)]) == 130
    monkeypatch.undo()
    assert main(["train", str(run.path)]) == 0
    found = told(run, "validation")
    assert [event["step"] for event in found] == [0, 2, 4, 6, 8]
    whole = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3, "every": "2"}, steps=8)
    assert main(["train", str(whole.path)]) == 0
    assert [event["loss"] for event in told(whole, "validation")] == [event["loss"] for event in found]
    assert hashed(whole) == hashed(run)


def test_measuring_by_itself_keeps_to_its_part_of_the_time(tmp_path, tiny_sd, pictures, monkeypatch):
    rhythms = []
    for seconds in (1e-6, 1e3):  # of a step: no measurement can be afforded, or as many as anyone wants
        monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_, seconds=seconds: seconds)
        run = new_run(tmp_path, tiny_sd, pictures, {"share": 0.3}, steps=40)
        assert main(["train", str(run.path)]) == 0
        rhythms.append([event["step"] for event in told(run, "validation")])
    assert rhythms == [[0, 40], list(range(0, 41, 2))]


def test_a_set_of_few_pictures_holds_nothing_out(tmp_path, tiny_sd, tiny_set):
    run = assemble(make_run(tmp_path, tiny_sd, tiny_set), Reporter(None))
    assert not run.chores.cache.held and len(run.chores.cache.pictures) == 6
