"""Our AdamW and Lion against others' and by hand, and the arena."""

import pytest
import pytorch_optimizer
import torch

from trainer.adapters.arena import ALIGN, Arena, Slot
from trainer.contract.config import OptimizerSection
from trainer.contract.errors import UserError
from trainer.optim.flat import adamw, lion
from trainer.optim.scaling import clip_gradient

SLOTS = [Slot("a.A", "unet.A", (3, 5)), Slot("a.B", "unet.B", (7, 3)), Slot("b.A", "unet.A", (3, 4))]


def filled(dtype=torch.float32) -> Arena:
    arena = Arena(SLOTS, torch.device("cpu"), dtype)
    generator = torch.Generator().manual_seed(0)
    for slot in SLOTS:
        arena.view(arena.master, slot.name).normal_(generator=generator)
    arena.publish()
    return arena


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_in_chunks_are_those_of_the_whole_bit_for_bit(monkeypatch, dtype):
    def stepped(chunk):
        monkeypatch.setattr("trainer.optim.flat.CHUNK", chunk)
        arena = Arena([Slot("a.A", "unet.A", (40, 30)), Slot("a.B", "unet.B", (7, 3))], torch.device("cpu"), dtype)
        arena.master.normal_(generator=torch.Generator().manual_seed(2))
        ours = adamw(arena, OptimizerSection(weight_decay=0.1))
        for step in range(3):
            arena.grad.normal_(generator=torch.Generator().manual_seed(step))
            ours.step({"unet.A": 0.01, "unet.B": 0.03})
        return [arena.master, *ours.state().values()]

    for found, wanted in zip(stepped(128), stepped(2**22), strict=True):
        assert torch.equal(found, wanted)


def test_ten_steps_equal_torch_adamw():
    arena = filled()
    options = OptimizerSection(learning_rate=0.01, weight_decay=0.1, beta2=0.95)
    ours = adamw(arena, options)
    theirs = {slot.name: arena.view(arena.master, slot.name).clone().requires_grad_() for slot in SLOTS}
    rates = {"unet.A": 0.01, "unet.B": 0.03}
    groups = [{"params": [theirs[slot.name]], "lr": rates[slot.group]} for slot in SLOTS]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        for slot in SLOTS:
            gradient = torch.randn(slot.shape, generator=generator)
            arena.view(arena.grad, slot.name).copy_(gradient)
            theirs[slot.name].grad = gradient
        ours.step(rates)
        optimizer.step()
    for slot in SLOTS:
        torch.testing.assert_close(
            arena.view(arena.master, slot.name), theirs[slot.name].detach(), rtol=1e-6, atol=1e-7
        )


def test_state_comes_back_bit_for_bit():
    arena, other = filled(), filled()
    first, second = (adamw(each, OptimizerSection()) for each in (arena, other))
    for each, optimizer in ((arena, first), (other, second)):
        each.grad.fill_(0.5)
        optimizer.step(dict.fromkeys(each.groups, 0.1))
    fresh = adamw(other, OptimizerSection())
    fresh.load({name: tensor.clone() for name, tensor in second.state().items()})
    first.step(dict.fromkeys(arena.groups, 0.1))
    fresh.step(dict.fromkeys(other.groups, 0.1))
    assert torch.equal(arena.master, other.master)


def test_gradients_land_in_the_one_buffer():
    arena = filled()
    (arena.parameters["a.A"].sum() * 2 + arena.parameters["a.B"].sum() * 3).backward()
    assert torch.equal(arena.view(arena.grad, "a.A"), torch.full((3, 5), 2.0))
    assert torch.equal(arena.view(arena.grad, "a.B"), torch.full((7, 3), 3.0))
    assert arena.view(arena.grad, "b.A").abs().sum() == 0


def test_the_working_copy_follows_the_master():
    arena = filled(torch.bfloat16)
    arena.master.mul_(2)
    arena.publish()
    torch.testing.assert_close(arena.parameters["a.B"].float(), arena.view(arena.master, "a.B"), rtol=1e-2, atol=1e-2)
    assert arena.parameters["a.B"].dtype == torch.bfloat16


def test_groups_are_slices_that_share_nothing():
    groups = filled().groups
    assert groups["unet.A"] == slice(0, 2 * ALIGN) and groups["unet.B"] == slice(2 * ALIGN, 3 * ALIGN)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 1.0), (100.0, 10.0), (0.0, 10.0)])
def test_clipping(limit, expected):
    arena = filled()
    arena.grad.zero_()
    arena.grad[0], arena.grad[1] = 6.0, 8.0
    assert clip_gradient(arena, limit) == pytest.approx(10.0)
    assert arena.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_lion_by_hand():
    """Two steps on one number, worked out with pencil: beta1 0.9, beta2 0.99, decay 0.1, rate 0.5."""
    arena = Arena([Slot("a.A", "unet.A", (1, 1))], torch.device("cpu"), torch.float32)
    optimizer = lion(arena, OptimizerSection(beta1=0.9, beta2=0.99, weight_decay=0.1))
    arena.master[0] = 2.0
    arena.grad[0] = 1.0
    optimizer.step({"unet.A": 0.5})  # 2 (1 - 0.05) - 0.5 sign(0.1) = 1.4; momentum 0.01
    assert arena.master[0].item() == pytest.approx(1.4)
    arena.grad[0] = -0.05
    optimizer.step({"unet.A": 0.5})  # sign(0.9 x 0.01 - 0.1 x 0.05) = 1: 1.4 x 0.95 - 0.5 = 0.83
    assert arena.master[0].item() == pytest.approx(0.83)
    assert optimizer.state()["first"][0].item() == pytest.approx(0.99 * 0.01 - 0.01 * 0.05)


def test_ten_steps_equal_another_lion():
    arena = filled()
    ours = lion(arena, OptimizerSection(weight_decay=0.1, beta2=0.95))
    theirs = {slot.name: arena.view(arena.master, slot.name).clone().requires_grad_() for slot in SLOTS}
    rates = {"unet.A": 0.01, "unet.B": 0.03}
    groups = [{"params": [theirs[slot.name]], "lr": rates[slot.group]} for slot in SLOTS]
    optimizer = pytorch_optimizer.Lion(groups, betas=(0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        for slot in SLOTS:
            gradient = torch.randn(slot.shape, generator=generator)
            arena.view(arena.grad, slot.name).copy_(gradient)
            theirs[slot.name].grad = gradient
        ours.step(rates)
        optimizer.step()
    for slot in SLOTS:
        torch.testing.assert_close(arena.view(arena.master, slot.name), theirs[slot.name].detach())


@pytest.mark.parametrize("make", [adamw, lion])
def test_a_group_without_a_rate_stays_as_it_is(make):
    arena = filled()
    optimizer = make(arena, OptimizerSection())
    before = arena.master.clone()
    arena.grad.fill_(1.0)
    optimizer.step({"unet.B": 0.1})
    assert torch.equal(arena.master[arena.groups["unet.A"]], before[arena.groups["unet.A"]])
    assert not torch.equal(arena.master[arena.groups["unet.B"]], before[arena.groups["unet.B"]])


def test_other_matrices_are_shown_for_a_while_only():
    arena = filled(torch.bfloat16)
    master, work = arena.master.clone(), arena.work.clone()
    with pytest.raises(RuntimeError, match="in between"), arena.showing(torch.full_like(master, 3.0)):
        assert arena.parameters["a.A"].unique().tolist() == [3.0] == arena.master.unique().tolist()
        raise RuntimeError("in between")
    assert torch.equal(arena.master, master) and torch.equal(arena.work, work)
    with arena.showing(None):
        assert torch.equal(arena.master, master)


@pytest.mark.parametrize("change", [{"more": torch.zeros(1)}, {"first": torch.zeros(3)}, {"first": None}])
def test_a_state_of_another_optimiser_is_refused(change):
    optimizer = adamw(filled(), OptimizerSection())
    saved = {name: tensor for name, tensor in {**optimizer.state(), **change}.items() if tensor is not None}
    with pytest.raises(UserError, match="does not fit"):
        optimizer.load(saved)
