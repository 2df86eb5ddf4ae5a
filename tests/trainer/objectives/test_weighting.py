"""Weights of timesteps against hand-worked values."""

import pytest
import torch

from trainer.objectives.weighting import debiased_weight, min_snr_weight, soft_min_snr_weight, uniform_weight

SIGNAL = torch.tensor([0.5, 10 / 11])  # SNR 1 and 10


@pytest.mark.parametrize(
    ("weight", "epsilon", "v"),
    [
        (uniform_weight, [1, 1], [1, 1]),
        (min_snr_weight, [1, 0.5], [0.5, 5 / 11]),
        (soft_min_snr_weight, [5 / 6, 1 / 3], [5 / 12, 10 / 33]),
        (debiased_weight, [1, 10**-0.5], [0.5, 1 / 11]),
    ],
)
def test_weights_by_hand(weight, epsilon, v):
    torch.testing.assert_close(weight(SIGNAL, 5.0, "epsilon"), torch.tensor(epsilon, dtype=torch.float32))
    torch.testing.assert_close(weight(SIGNAL, 5.0, "v_prediction"), torch.tensor(v, dtype=torch.float32))


def test_soft_min_snr_is_min_snr_far_from_gamma():
    far = torch.tensor([0.001, 0.9999])
    for prediction in ("epsilon", "v_prediction"):
        torch.testing.assert_close(
            soft_min_snr_weight(far, 5.0, prediction), min_snr_weight(far, 5.0, prediction), rtol=1e-3, atol=1e-6
        )


def test_debiased_stops_where_there_is_hardly_any_noise():
    least = debiased_weight(torch.tensor([0.9999999]), 5.0, "epsilon")
    torch.testing.assert_close(least, torch.tensor([1000**-0.5]))


@pytest.mark.parametrize("weight", [uniform_weight, min_snr_weight, soft_min_snr_weight, debiased_weight])
def test_every_weight_of_v_is_a_number_at_a_zero_terminal_snr(weight):
    assert weight(torch.tensor([0.0]), 5.0, "v_prediction").isfinite().all()
