"""fp16: small gradients arrive, overflowing steps are left out, a whole run on real fp16 kernels resumes exactly."""

import pytest
import torch

from tests.trainer.optim.test_flat import filled
from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.contract.config import OptimizerSection
from trainer.contract.errors import UserError
from trainer.contract.rundir import State, steps
from trainer.formats.header import read_header
from trainer.optim.flat import adamw
from trainer.optim.scaling import FIRST_SCALE, MOST_SKIPPED, LossScale, clip_gradient
from trainer.state import load_latest

RATES = {"unet.A": 0.01, "unet.B": 0.03}


def scaled() -> LossScale:
    arena = filled(torch.float16)
    return LossScale(adamw(arena, OptimizerSection()), arena)


def learn(scale: LossScale, gradient: float) -> torch.Tensor:
    """What a backward pass of the scaled loss leaves, then clip and step; returns the norm."""
    scale.arena.added.fill_(gradient * float(scale.factor))
    norm = scale.clip(1.0, torch.ones(()))
    scale.step(RATES)
    return norm


def test_gradients_too_small_for_fp16_are_learnt_as_in_fp32():
    tiny = 1e-9
    assert torch.tensor(tiny).half() == 0
    scale, plain, start = scaled(), filled(), filled().master
    optimizer = adamw(plain, OptimizerSection())
    for _ in range(3):
        norm = learn(scale, tiny)
        plain.grad.fill_(tiny)
        assert norm == pytest.approx(float(clip_gradient(plain, 1.0)), rel=1e-3)
        optimizer.step(RATES)
    torch.testing.assert_close(scale.arena.master - start, plain.master - start, rtol=0.01, atol=1e-6)
    assert (plain.master - start).abs().max() > 1e-3
    assert torch.equal(scale.arena.work, scale.arena.master.half())


def test_a_loss_that_is_no_number_is_left_out_too():
    scale, nan = scaled(), torch.tensor(float("nan"))
    master = scale.arena.master.clone()
    scale.arena.added.fill_(1.0)
    assert scale.clip(1.0, nan).isnan() and scale.overflowed
    scale.step(RATES)
    assert torch.equal(scale.arena.master, master) and float(scale.factor) == FIRST_SCALE / 2


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    scale = scaled()
    learn(scale, 1e-3)
    before = {name: tensor.clone() for name, tensor in scale.state().items()}
    master = scale.arena.master.clone()
    for bad in (float("inf"), float("nan")):
        assert not learn(scale, bad).isfinite()
    assert torch.equal(scale.arena.master, master) and scale.skipped == 2
    after = scale.state()
    assert all(torch.equal(after[name], before[name]) for name in ("first", "second", "count"))
    assert (float(before["scale"]), float(after["scale"])) == (FIRST_SCALE, FIRST_SCALE / 4)
    assert (int(before["scale_good"]), int(after["scale_good"])) == (1, 0)
    learn(scale, 1e-3)
    assert scale.skipped == 0 and int(scale.state()["count"]) == 2


def test_the_scale_goes_the_way_of_torchs_own(monkeypatch):
    monkeypatch.setattr("trainer.optim.scaling.GOOD_STEPS", 3)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    weight = torch.zeros(1, requires_grad=True)
    optimizer, ours = torch.optim.SGD([weight], 0.1), scaled()
    assert theirs.get_scale() == float(ours.factor)
    for bad in (False, True, False, False, False, False, True, True, False, False, False, False, False, False):
        weight.grad = None
        theirs.scale((weight * (float("inf") if bad else 1e-4)).sum()).backward()
        theirs.step(optimizer)
        theirs.update()
        learn(ours, float("inf") if bad else 1e-4)
        assert float(ours.factor) == theirs.get_scale()


def test_fifty_in_a_row_are_an_error_with_advice():
    scale = scaled()
    for _ in range(MOST_SKIPPED - 1):
        learn(scale, float("inf"))
    with pytest.raises(UserError, match="fp16"):
        learn(scale, float("inf"))


def test_the_state_comes_back():
    scale, other = scaled(), scaled()
    for gradient in (1e-3, float("inf"), 2e-3):
        learn(scale, gradient)
    other.load({name: tensor.clone() for name, tensor in scale.state().items()})
    other.arena.master.copy_(scale.arena.master)
    learn(scale, 1e-3)
    learn(other, 1e-3)
    assert torch.equal(scale.arena.master, other.arena.master) and float(other.factor) == FIRST_SCALE / 2


def fp16_run(home, base, pictures, dtype="fp16", **training):
    run = make_run(home, base, pictures, **training)
    text = (run.path / "config.toml").read_text()
    (run.path / "config.toml").write_text(text.replace('dtype = "auto"', f'dtype = "{dtype}"'))
    return run


def test_a_whole_run_in_fp16_learns_what_fp32_learns(tmp_path, tiny_sd, tiny_set):
    losses = {}
    for dtype in ("fp16", "fp32"):
        run = fp16_run(tmp_path / dtype, tiny_sd, tiny_set, dtype, steps=6, accumulation=2)
        assert main(["train", str(run.path)]) == 0
        assert run.engine()["dtype"] == dtype
        losses[dtype] = {step: event["loss"] for step, event in steps(run).items()}
        if dtype == "fp16":
            assert read_header(run.adapter_file).metadata["ss_mixed_precision"] == "fp16"
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_a_stopped_fp16_run_goes_on_exactly(tmp_path, tiny_sd, tiny_set, monkeypatch):
    whole = fp16_run(tmp_path / "whole", tiny_sd, tiny_set, steps=6, save_every="3")
    broken = fp16_run(tmp_path / "broken", tiny_sd, tiny_set, steps=6, save_every="3")
    monkeypatch.setattr("trainer.optim.scaling.GOOD_STEPS", 2)  # so that the scale is another one at every save
    monkeypatch.setattr("trainer.optim.scaling.FIRST_SCALE", 16.0)
    assert main(["train", str(whole.path)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("trainer.__main__.RunDir.asked", lambda self, what: what == "stop" and len(steps(self)) > 2)
        assert main(["train", str(broken.path)]) == 130
    assert broken.status().state == State.STOPPED and float(load_latest(broken)[1]["scale"]) == 32.0
    assert main(["train", str(broken.path)]) == 0
    assert broken.adapter_file.read_bytes() == whole.adapter_file.read_bytes()
    assert float(load_latest(whole)[1]["scale"]) == 128.0
