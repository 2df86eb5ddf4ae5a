"""The memory ladder, as far as it goes without a GPU."""

import weakref

import pytest
import torch

import trainer.assemble
from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.assemble import AssembledRun
from trainer.contract.config import ModelSection
from trainer.contract.rundir import State
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.memory import RUNGS


def notices(run) -> str:
    return "\n".join(event["text"] for event in run.events() if event["kind"] == "notice")


def out_of_memory(monkeypatch, rungs, after=2):
    """Let the step fail on these rungs as a GPU does, once some steps are done."""
    real, calls = AssembledRun._forward_backward, iter(range(10_000))

    def step(self, batch):
        if self.engine.rung in rungs and next(calls) >= after:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch)

    monkeypatch.setattr(AssembledRun, "_forward_backward", step)


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_gives_the_same_file(tmp_path, tiny_sd, tiny_set, rung):
    plain = make_run(tmp_path / "plain", tiny_sd, tiny_set, steps=6)
    assert main(["train", str(plain.path)]) == 0
    run = make_run(tmp_path / rung, tiny_sd, tiny_set, steps=6)
    text = (run.path / "config.toml").read_text()
    (run.path / "config.toml").write_text(text.replace('checkpointing = "auto"', f'checkpointing = "{rung}"'))
    assert main(["train", str(run.path)]) == 0
    assert run.engine()["rung"] == rung
    assert run.adapter_file.stat().st_size == pytest.approx(plain.adapter_file.stat().st_size, abs=64)
    state = "checkpoints/step-000006/state.safetensors"
    assert (run.path / state).read_bytes() == (plain.path / state).read_bytes()


def test_out_of_memory_goes_on_one_rung_lower_from_the_last_checkpoint(tmp_path, tiny_sd, tiny_set, monkeypatch):
    whole = make_run(tmp_path / "whole", tiny_sd, tiny_set, steps=8, save_every="2")
    assert main(["train", str(whole.path)]) == 0
    run = make_run(tmp_path / "lean", tiny_sd, tiny_set, steps=8, save_every="2")
    out_of_memory(monkeypatch, {"none"}, after=3)
    assert main(["train", str(run.path)]) == 0
    assert run.status().state == State.DONE and run.engine()["rung"] == "half"
    assert "half of the blocks" in notices(run)
    assert [event["step"] for event in run.events() if event["kind"] == "start"] == [0, 2]
    assert run.adapter_file.read_bytes() == whole.adapter_file.read_bytes()


def test_the_attempt_that_failed_has_left_the_memory_when_the_next_one_loads(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4)
    out_of_memory(monkeypatch, {"none"})
    real, seen, alive = trainer.assemble.load_family, [], []

    def load(*arguments):
        alive.append([reference() is not None for reference in seen])
        family = real(*arguments)
        seen.append(weakref.ref(family))
        return family

    monkeypatch.setattr("trainer.assemble.load_family", load)
    assert main(["train", str(run.path)]) == 0
    assert alive == [[], [False]]


def test_memory_that_is_too_small_for_the_model_itself_is_said(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trainer.assemble.load_family", fail)
    assert main(["train", str(run.path)]) == 2
    assert "to load this model" in capsys.readouterr().err and run.engine() == {}


def test_below_the_last_rung_there_is_advice_and_exit_code_2(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=8)
    out_of_memory(monkeypatch, set(RUNGS), after=0)
    assert main(["train", str(run.path)]) == 2
    assert "batch_size" in capsys.readouterr().err and run.status().state == State.FAILED


def test_a_sample_that_fails_does_not_end_the_run(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4)

    def fail(*_):
        raise RuntimeError("no picture today")

    monkeypatch.setattr("trainer.chores.draw", fail)
    assert main(["train", str(run.path)]) == 0
    assert run.status().state == State.DONE and run.adapter_file.exists()
    assert "no picture today" in notices(run)


def test_a_picture_too_large_for_the_memory_is_decoded_in_tiles(tiny_sd, monkeypatch):
    family = load_family(ModelSection(base=str(tiny_sd)), Engine(torch.device("cpu"), torch.float32, 1))
    latents = torch.randn(1, 4, 48, 48, generator=torch.Generator().manual_seed(0))
    whole = family.decode(latents)
    vae = family.part("vae")
    real = vae.decode

    def decode(z, *rest):
        if not vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(z, *rest)

    monkeypatch.setattr(vae, "decode", decode)
    tiled = family.decode(latents)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.25 * whole.std()
