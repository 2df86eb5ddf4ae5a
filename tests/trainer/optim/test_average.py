"""The running average: by hand, around any optimiser, saved and taken up again."""

import pytest
import torch

from tests.trainer.optim.test_flat import filled
from trainer.contract.compose import compose
from trainer.optim.average import Averaged, decay_at
from trainer.optim.build import build


def config(ema=0.9, used=True, name="sgd"):
    return compose(
        [
            {
                "dataset": {"path": "x"},
                "optimizer": {"name": name, "weight_decay": 0.0, "beta1": 0.0},
                "training": {"ema": ema},
                "export": {"ema": used},
            }
        ],
        "keep",
    )


def test_the_decay_grows_to_what_was_asked_for():
    assert [decay_at(count, 0.999) for count in (0, 1, 8)] == pytest.approx([0.1, 2 / 11, 0.5])
    assert decay_at(100, 0.9) == 0.9 and decay_at(10**6, 0.999) == 0.999


def test_two_updates_by_hand():
    arena = filled()
    arena.master.fill_(1.0)
    optimizer = build(arena, config()).optimizer  # within the guard
    assert isinstance(optimizer, Averaged)
    rates = dict.fromkeys(arena.groups, 1.0)
    arena.grad.fill_(-1.0)
    optimizer.step(rates)  # master 2; 0.1 x 1 + 0.9 x 2 = 1.9
    arena.grad.fill_(-1.0)
    optimizer.step(rates)  # master 3; 2/11 x 1.9 + 9/11 x 3
    assert arena.master.unique().tolist() == [3.0]
    torch.testing.assert_close(optimizer.shown(), torch.full_like(arena.master, 2 / 11 * 1.9 + 9 / 11 * 3))


def test_matrices_that_come_later_are_what_it_begins_with():
    """A run that goes on from another's checkpoint is made first and filled then."""
    arena = filled()
    optimizer = build(arena, config()).optimizer
    arena.master.fill_(5.0)
    assert optimizer.shown() is None, "the master itself"
    arena.grad.fill_(-1.0)
    optimizer.step(dict.fromkeys(arena.groups, 1.0))  # master 6
    torch.testing.assert_close(optimizer.shown(), torch.full_like(arena.master, 0.1 * 5 + 0.9 * 6))


def test_it_is_shown_only_where_that_is_asked_for():
    arena = filled()
    assert build(arena, config(used=False)).shown() is None
    assert build(arena, config(ema=0.0)).shown() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["adamw", "prodigy"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(name, dtype):
    arena, other = filled(dtype), filled(dtype)
    first, fresh = (build(each, config(name=name)) for each in (arena, other))
    rates = dict.fromkeys(arena.groups, 0.1)
    for step in range(6):
        if step == 3:
            fresh.load({key: tensor.clone() for key, tensor in first.state().items()})
            other.master.copy_(arena.master)
        for each, optimizer in ((arena, first), (other, fresh)):
            each.grad.fill_(0.1 * step - 0.2)
            if each is arena or step >= 3:
                optimizer.step(rates)
    assert torch.equal(first.shown(), fresh.shown()) and torch.equal(arena.master, other.master)
    assert not torch.equal(first.shown(), arena.master)
