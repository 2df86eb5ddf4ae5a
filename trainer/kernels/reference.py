"""What our kernels compute, in torch's own: the definition of each, against which they are tested."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Kernels(NamedTuple):
    """What stands between the products of a UNet; `reference` says what each is."""

    group_norm: Callable[..., Tensor]
    gated_gelu: Callable[[Tensor], Tensor]
    add_norm: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    add_bias: Callable[[Tensor, Tensor, Tensor], Tensor]
    scale_rows: Callable[[Tensor, Tensor], Tensor]


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool = False,
    shift: Tensor | None = None,
    conv_bias: Tensor | None = None,
) -> Tensor:
    """See `trainer.kernels.group_norm.group_norm`."""
    if shift is not None:
        x = x + (shift + conv_bias)[:, :, None, None]
    x = F.group_norm(x, groups, weight, bias, eps)
    return F.silu(x) if silu else x


def gated_gelu(x: Tensor) -> Tensor:
    """See `trainer.kernels.rows.gated_gelu`."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def add_norm(x: Tensor, more: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `trainer.kernels.rows.add_norm`."""
    total = x + more
    return total, F.layer_norm(total, total.shape[-1:], weight, bias, eps)


def add_bias(x: Tensor, more: Tensor, bias: Tensor) -> Tensor:
    """See `trainer.kernels.rows.add_bias`."""
    return x + more + bias[:, None, None]


def scale_rows(x: Tensor, scale: Tensor) -> Tensor:
    """See `trainer.kernels.rows.scale_rows`."""
    scale = scale[:, None]
    return torch.where(scale == 0, 0.0, x * scale)  # infinity times 0 would be no number


REFERENCE = Kernels(group_norm, gated_gelu, add_norm, add_bias, scale_rows)
