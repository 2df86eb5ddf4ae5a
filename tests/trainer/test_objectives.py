"""Objectives against hand-worked values and diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from trainer.objectives import add_noise, alphas_cumprod, min_snr_weight, target, weighted_mse

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_the_noise_schedule_is_diffusers_own(schedule):
    config = {**CONFIG, "beta_schedule": schedule}
    torch.testing.assert_close(alphas_cumprod(config), DDPMScheduler(**config).alphas_cumprod, rtol=0, atol=0)


def test_noising_and_v_are_diffusers_own():
    scheduler, clean, noise = DDPMScheduler(**CONFIG), torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    steps = torch.tensor([0, 500, 999])
    signal = alphas_cumprod(CONFIG)[steps]
    torch.testing.assert_close(add_noise(clean, noise, signal), scheduler.add_noise(clean, noise, steps))
    torch.testing.assert_close(
        target("v_prediction", clean, noise, signal), scheduler.get_velocity(clean, noise, steps)
    )
    assert target("epsilon", clean, noise, signal) is noise


def test_min_snr_by_hand():
    signal = torch.tensor([0.5, 10 / 11])  # SNR 1 and 10
    torch.testing.assert_close(min_snr_weight(signal, 5.0, "epsilon"), torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(min_snr_weight(signal, 5.0, "v_prediction"), torch.tensor([0.5, 5 / 11]))


def test_weighted_mse_by_hand():
    predicted, wanted = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[2.0, 0.0]]]])
    assert weighted_mse(predicted, wanted, torch.tensor([1.0, 0.5])) == pytest.approx((5 * 1 + 2 * 0.5) / 2)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="beta_schedule"):
        alphas_cumprod({**CONFIG, "beta_schedule": "other"})
    with pytest.raises(ValueError, match="prediction"):
        target("other", torch.zeros(1), torch.zeros(1), torch.zeros(1))
