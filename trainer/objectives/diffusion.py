"""The forward process and what is predicted: pure functions on tensors, each with its source.

Shapes: B batch, C latent channels, H x W latent size, T timesteps of the base.
"""

import torch
from torch import Tensor


def alphas_cumprod(config: dict) -> Tensor:
    """Cumulative signal share of a scheduler config (Ho et al. 2020, arXiv 2006.11239, eq. 4).

    Where it says `rescale_betas_zero_snr`, the last timestep is pure noise.

    Returns:
        [T] float32 on the CPU.

    Raises:
        ValueError: a beta schedule that Stable Diffusion does not use.
    """
    start, end, count = config["beta_start"], config["beta_end"], config["num_train_timesteps"]
    match config["beta_schedule"]:
        case "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
        case "linear":
            betas = torch.linspace(start, end, count, dtype=torch.float32)
        case other:
            raise ValueError(f"unknown beta_schedule {other!r}: expected scaled_linear or linear")
    signal = torch.cumprod(1.0 - betas, dim=0)
    return zero_terminal(signal) if config.get("rescale_betas_zero_snr") else signal


def zero_terminal(signal: Tensor) -> Tensor:
    """Shift and scale sqrt(alphas_cumprod) so that it ends at 0 (Lin et al., arXiv 2305.08891, algorithm 1)."""
    root = signal.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def add_noise(clean: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Forward process: sqrt(a) x + sqrt(1 - a) eps (arXiv 2006.11239, eq. 4).

    Args:
        clean, noise: [B, C, H, W].
        signal: [B] alphas_cumprod at each sample's timestep.
    """
    share = signal.view(-1, 1, 1, 1)
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def target(prediction: str, clean: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """What the UNet should answer: the noise, or v = sqrt(a) eps - sqrt(1 - a) x (arXiv 2202.00512, app. D)."""
    match prediction:
        case "epsilon":
            return noise
        case "v_prediction":
            share = signal.view(-1, 1, 1, 1)
            return share.sqrt() * noise - (1 - share).sqrt() * clean
        case other:
            raise ValueError(f"unknown prediction type {other!r}: expected epsilon or v_prediction")
