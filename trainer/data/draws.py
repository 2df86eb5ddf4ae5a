"""Stateless randomness: every draw is a function of (seed, what, micro-step, sample) and of nothing before it.

A resume needs the step number only, and a CPU and a GPU see the same draws, because all of them are made on the CPU.
"""

from hashlib import blake2b

import torch
from torch import Tensor

# What is drawn: appended to, never reordered.
NOISE, TIMESTEP, LATENT, FLIP, CAPTION, DROPOUT, ORDER, OFFSET, CROP, WORDING = range(10)
PYRAMID, PERTURBATION, STRATUM = range(10, 13)
VALIDATION = 13


def generator(seed: int, what: int, *place: int | str) -> torch.Generator:
    """Return a CPU generator that depends on nothing but its arguments."""
    key = blake2b(repr((seed, what, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def noise(seed: int, what: int, micro_step: int, batch: int, shape: tuple[int, ...], first: int = 0) -> Tensor:
    """Standard normal, [batch, *shape] float32, each sample from its own generator.

    Args:
        seed: of the run.
        what: is drawn.
        micro_step: counted over the run.
        batch: samples of this process.
        shape: of one.
        first: number of its first sample in the batch of all processes, so that no two draw the same.
    """
    places = [generator(seed, what, micro_step, index) for index in range(first, first + batch)]
    return torch.stack([torch.randn(shape, generator=place) for place in places])


def uniform(seed: int, what: int, micro_step: int, batch: int, first: int = 0) -> Tensor:
    """Uniform in [0, 1), [batch] float32; see `noise`."""
    places = [generator(seed, what, micro_step, index) for index in range(first, first + batch)]
    return torch.cat([torch.rand(1, generator=place) for place in places])


def permutation(seed: int, count: int, *place: int, what: int = ORDER) -> list[int]:
    """An order of `count` things; `place` is the epoch, then whatever tells several orders of one epoch apart."""
    order: list[int] = torch.randperm(count, generator=generator(seed, what, *place)).tolist()
    return order
