"""What is made of plain noise before it is added to a picture.

Shapes: C latent channels, H x W latent size, of one sample.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

LEAST, MOST = 2.0, 4.0  # times that a level of pyramid noise is coarser than the one before


def offset_noise(noise: Tensor, shared: Tensor, strength: float) -> Tensor:
    """Noise that shifts whole channels too (https://www.crosslabs.org/blog/diffusion-with-offset-noise).

    Args:
        noise: [C, H, W] standard normal, or [B, C, H, W].
        shared: [C, 1, 1] standard normal, or [B, C, 1, 1].
        strength: 0.1 in the article.
    """
    return noise + strength * shared


def pyramid_sizes(height: int, width: int, factors: Sequence[float]) -> list[tuple[int, int]]:
    """(height, width) of every coarser level, each a factor smaller than the one before; it ends at a side of 1."""
    sizes, divided = list[tuple[int, int]](), 1.0
    for factor in factors:
        divided *= factor
        sizes.append((max(1, int(height / divided)), max(1, int(width / divided))))
        if 1 in sizes[-1]:
            break
    return sizes


def pyramid_noise(noise: Tensor, levels: Sequence[Tensor], discount: float) -> Tensor:
    """Multi-resolution noise: coarser noise on top, each level fainter, brought back to a standard deviation of 1.

    https://wandb.ai/johnowhitaker/multires_noise/reports/Multi-Resolution-Noise-for-Diffusion-Model-Training--VmlldzozNjYyOTU2

    Args:
        noise: [C, H, W] standard normal.
        levels: [C, h, w] standard normal each, from the finest to the coarsest.
        discount: level i, counted from 1, has a strength of discount^i.
    """
    for number, level in enumerate(levels, start=1):
        coarse = F.interpolate(level[None], noise.shape[1:], mode="bilinear", align_corners=False)[0]
        noise = noise + coarse * discount**number
    return noise / noise.std()


def perturbed_noise(noise: Tensor, other: Tensor, strength: float) -> Tensor:
    """The noise that is put into the input, where the target stays the plain one (Ning et al., arXiv 2301.11706).

    Args:
        noise, other: [B, C, H, W] standard normal.
        strength: gamma; 0.1 in the paper.
    """
    return noise + strength * other
