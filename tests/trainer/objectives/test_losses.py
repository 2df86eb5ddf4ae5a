"""Losses and their thresholds against hand-worked values."""

import pytest
import torch

from trainer.objectives.losses import (
    constant_threshold,
    exponential_threshold,
    huber,
    l1,
    l2,
    smooth_l1,
    snr_threshold,
    weighted_mean,
)


@pytest.mark.parametrize(("loss", "by_hand"), [(l2, 9), (l1, 3), (huber, 8), (smooth_l1, 2)])
def test_losses_by_hand(loss, by_hand):
    """An error of 3 at a threshold of 4: sqrt(9 + 16) - 4 = 1."""
    answer, wanted, threshold = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 4.0)
    assert loss(answer, wanted, threshold).item() == by_hand
    assert loss(wanted, answer, threshold).item() == by_hand


def test_huber_is_l2_for_small_errors_and_l1_for_large():
    zero, c = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    small, large = torch.full_like(zero, 1e-3), torch.full_like(zero, 100)
    assert huber(small, zero, c).item() == pytest.approx(1e-6, rel=1e-3)
    assert huber(large, zero, c).item() == pytest.approx(2 * 0.1 * 100, rel=2e-3)
    assert smooth_l1(large, zero, c).item() == pytest.approx(2 * 100, rel=2e-3)


@pytest.mark.parametrize(
    ("schedule", "c", "by_hand"),
    [
        (constant_threshold, 0.2, [0.2, 0.2, 0.2]),
        (exponential_threshold, 0.01, [1, 0.1, 0.01]),
        (snr_threshold, 0.2, [1, 0.4, 0.2]),  # 0.8 / (1 + 1)^2 + 0.2 at sigma 1
    ],
)
def test_thresholds_by_hand(schedule, c, by_hand):
    timesteps, signal = torch.tensor([0, 500, 1000]), torch.tensor([1.0, 0.5, 0.0])
    torch.testing.assert_close(schedule(timesteps, signal, 1000, c), torch.tensor(by_hand, dtype=torch.float32))


def test_the_weighted_mean_by_hand():
    error, weight = torch.tensor([[[[1.0, 9.0]]], [[[4.0, 0.0]]]]), torch.tensor([1.0, 0.5])
    assert weighted_mean(error, weight) == pytest.approx((5 * 1 + 2 * 0.5) / 2)
    parts = torch.tensor([[[[2.0, 0.0]]], [[[1.0, 1.0]]]])
    assert weighted_mean(error, weight, parts) == pytest.approx((1 * 1 + 2 * 0.5) / 2)
