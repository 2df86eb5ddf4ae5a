"""Norms to whose weight and bias adapters add, each picture by its own strengths.

Shapes: B batch, C channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Vectors:
    """What adapters add to a norm's weight, or to its bias, in each picture of a batch.

    Args:
        batch: pictures.
        like: the norm's weight [C].
    """

    def __init__(self, batch: int, like: Tensor) -> None:
        self.sums = torch.zeros(batch, len(like), device=like.device, dtype=like.dtype)
        self.touched = torch.zeros(batch, dtype=torch.bool, device=like.device)

    def add(self, rows: slice, scale: Tensor, vector: Tensor | None) -> None:
        """Add a vector [C] at strengths [n], or one for all, to these pictures."""
        if vector is not None:
            self.sums[rows] += scale[:, None].to(vector.dtype) * vector
            self.touched[rows] = True


def normed(
    base: nn.Module,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    shift: Tensor | None = None,
    conv_bias: Tensor | None = None,
) -> Tensor:
    """What a norm, of layers or groups, answers with other vectors in each picture.

    What is fused with a norm in the UNet's blocks (see `trainer.families.blocks.Normalise`) is done here one after the
    other.

    Args:
        base: with `weight`, `bias` and `eps`; of groups with `groups` or `num_groups`, and perhaps with `silu`.
        weight, bias: [B, C] that are added to its own.
        x, shift, conv_bias: as the base gets them.
    """
    for more in (shift, conv_bias):
        x = x if more is None else x + (more[:, :, None, None] if more.dim() == 2 else more[:, None, None])
    own: Any = base
    groups = getattr(base, "groups", 0) or getattr(base, "num_groups", 0)
    side = 1 if groups else -1
    plain = F.group_norm(x, groups, eps=own.eps) if groups else F.layer_norm(x, x.shape[-1:], eps=own.eps)
    bias = bias if own.bias is None else own.bias + bias
    answer = plain * beside(own.weight + weight, x, side) + beside(bias, x, side)
    return F.silu(answer) if getattr(base, "silu", False) else answer


def beside(rows: Tensor, x: Tensor, side: int) -> Tensor:
    """[B, C] in such dimensions that it goes with x, whose channels are on that side."""
    middle = [1] * (x.dim() - 2)
    return rows.view(len(rows), -1, *middle) if side == 1 else rows.view(len(rows), *middle, -1)
