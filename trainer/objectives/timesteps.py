"""Which timesteps are learned: from uniform numbers to timesteps.

Shapes: B batch. Every row of the catalogue's table is an inverse cumulative distribution: called with uniform numbers
[B] in [0, 1) and the section of the config, it returns [B] in [0, 1], 0 without noise and 1 pure noise.
"""

import torch
from torch import Tensor

from trainer.contract.config import ObjectiveSection


def uniform(at: Tensor, options: ObjectiveSection) -> Tensor:
    """Every timestep as often (Ho et al. 2020, arXiv 2006.11239, algorithm 1)."""
    return at


def logit_normal(at: Tensor, options: ObjectiveSection) -> Tensor:
    """sigmoid of a normal distribution: mostly the middle (Esser et al. 2024, arXiv 2403.03206, section 3.1)."""
    return torch.sigmoid(options.timestep_mean + options.timestep_std * torch.special.ndtri(at))


def early(at: Tensor, options: ObjectiveSection) -> Tensor:
    """u^p: more of the timesteps with little noise, where detail and texture are made."""
    return at**options.timestep_bias


def late(at: Tensor, options: ObjectiveSection) -> Tensor:
    """1 - (1 - u)^p: more of the timesteps with much noise, where composition and shape are made."""
    return 1 - (1 - at) ** options.timestep_bias


def stratified(at: Tensor, strata: Tensor, count: int) -> Tensor:
    """Uniform numbers, one in each of `count` equal parts, as VDM spreads them (arXiv 2107.00630).

    Args:
        at: [B] in [0, 1): where in its part.
        strata: [B] which part.
        count: parts.
    """
    return (strata + at) / count


def in_range(share: Tensor, low: int, high: int) -> Tensor:
    """Shares [B] in [0, 1] of the range from timestep `low` up to, and without, `high` -> [B] int64."""
    return (low + share * (high - low)).long().clamp(low, high - 1)
