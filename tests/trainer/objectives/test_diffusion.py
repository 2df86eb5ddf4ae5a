"""Objectives against hand-worked values and diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from trainer.objectives.diffusion import add_noise, alphas_cumprod, target, zero_terminal

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


def test_zero_terminal_snr_by_hand_and_as_diffusers_has_it():
    rescaled = zero_terminal(torch.tensor([0.81, 0.25, 0.01]))  # roots 0.9, 0.5, 0.1 -> 0.9, 0.45, 0
    torch.testing.assert_close(rescaled, torch.tensor([0.81, 0.2025, 0.0]))
    config = {**CONFIG, "rescale_betas_zero_snr": True}
    theirs = DDPMScheduler(**config).alphas_cumprod
    torch.testing.assert_close(alphas_cumprod(config), theirs, rtol=1e-4, atol=1e-6)
    assert alphas_cumprod(config)[-1] == 0


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="beta_schedule"):
        alphas_cumprod({**CONFIG, "beta_schedule": "other"})
    with pytest.raises(ValueError, match="prediction"):
        target("other", torch.zeros(1), torch.zeros(1), torch.zeros(1))
