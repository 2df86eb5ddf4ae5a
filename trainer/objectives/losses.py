"""How far an answer is from what was wanted, and how much of it counts.

Shapes: B batch, C latent channels, H x W latent size, T timesteps of the base.

A row of the catalogue's losses is called with answer and wanted [B, C, H, W] float32 and the threshold [B, 1, 1, 1] it
bends at (None for one that does not), and returns the error of each element. A row of its thresholds is called with
timesteps [B], signal share [B], T and huber_c, and returns [B].
"""

import torch
from torch import Tensor


def l2(answer: Tensor, wanted: Tensor, threshold: Tensor | None) -> Tensor:
    """Squared error."""
    return (answer - wanted).square()


def l1(answer: Tensor, wanted: Tensor, threshold: Tensor | None) -> Tensor:
    """Absolute error."""
    return (answer - wanted).abs()


def huber(answer: Tensor, wanted: Tensor, threshold: Tensor) -> Tensor:
    """Pseudo-Huber loss 2 c (sqrt(d^2 + c^2) - c) (Khrapov et al. 2024, arXiv 2403.16728).

    As L2 where the error d is far below the threshold c, as 2 c L1 far above it.
    """
    return 2 * threshold * _bend(answer - wanted, threshold)


def smooth_l1(answer: Tensor, wanted: Tensor, threshold: Tensor) -> Tensor:
    """The same over c: 2 (sqrt(d^2 + c^2) - c), as 2 L1 far above the threshold whatever it is."""
    return 2 * _bend(answer - wanted, threshold)


def _bend(error: Tensor, threshold: Tensor) -> Tensor:
    return (error.square() + threshold.square()).sqrt() - threshold


def constant_threshold(timesteps: Tensor, signal: Tensor, count: int, c: float) -> Tensor:
    """c at every timestep."""
    return torch.full_like(signal, c)


def exponential_threshold(timesteps: Tensor, signal: Tensor, count: int, c: float) -> Tensor:
    """From 1 without noise down to c: c^(t / T) (arXiv 2403.16728)."""
    return torch.pow(c, timesteps.float() / count)


def snr_threshold(timesteps: Tensor, signal: Tensor, count: int, c: float) -> Tensor:
    """(1 - c) / (1 + sigma)^2 + c with sigma^2 = (1 - a) / a: from 1 without noise down to c (kohya's `snr`)."""
    # sqrt(a) instead of 1 / sigma, which is not defined at a zero terminal SNR
    root = signal.sqrt()
    return (1 - c) * (root / (root + (1 - signal).sqrt())).square() + c


def weighted_mean(error: Tensor, weight: Tensor, parts: Tensor | None = None) -> Tensor:
    """Mean over the batch of each sample's mean error times its weight.

    Args:
        error: [B, C, H, W].
        weight: [B].
        parts: what each pixel counts, [B, 1, H, W] or [B, 1, 1, 1]; None where all count alike.
    """
    if parts is not None:
        error = error * parts
    return (error.mean(dim=(1, 2, 3)) * weight).mean()
