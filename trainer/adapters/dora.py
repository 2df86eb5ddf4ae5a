"""DoRA (Liu et al. 2024, arXiv 2402.09353): a LoRA that turns each column of a weight, and a factor that scales it.

Columns are those of an input, as in the paper; the only kind that every client reads alike. Files with lengths of the
outputs' rows, as LyCORIS writes them by default, are read too. Trained is how much longer a column gets, not its
length: bf16 would round the length, and the start would not be the base.
"""

from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lora import drawn_down
from trainer.adapters.lycoris import BACKEND, weight_decompose
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size

DOWN, UP, LENGTHS = "lora_down.weight", "lora_up.weight", "dora_scale"


def start(shape: torch.Size, size: Size, options: AdapterSection) -> dict[str, Tensor]:
    """As a LoRA's, and columns no longer than they are."""
    drawn = drawn_down((size.rank, *shape[1:]), options.init)
    return {DOWN: drawn, UP: torch.zeros(shape[0], size.rank, *[1] * (len(shape) - 2)), LENGTHS: _row(shape)}


def _row(shape: torch.Size) -> Tensor:
    return torch.zeros(1, shape[1], *[1] * (len(shape) - 2))


def lengths(weight: Tensor) -> Tensor:
    """[O, I, k...] -> [1, I, 1...], the norms of its columns."""
    return weight.float().transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.dim() - 2))


def trained(weight: Tensor, tensors: merged.Tensors) -> dict[str, Tensor]:
    """See `Method`."""
    return {**tensors, LENGTHS: lengths(weight) * (1 + tensors[LENGTHS].float())}


def restored(weight: Tensor, tensors: merged.Tensors) -> dict[str, Tensor]:
    """See `Method`."""
    own = lengths(weight)
    return {**tensors, LENGTHS: torch.where(own > 0, tensors[LENGTHS].float() / own - 1, 0.0)}  # nothing has no length


def update(weight: Tensor, tensors: merged.Tensors, alpha: float) -> Tensor:
    """See `Method`."""
    down, up, whole = tensors[DOWN].float(), tensors[UP].float(), weight.float()
    turned = whole + (up.flatten(1) @ down.flatten(1)).view_as(whole) * (alpha / len(down))
    scales = tensors[LENGTHS].float()
    return weight_decompose(turned, scales, wd_on_out=len(scales) > 1, backend=BACKEND) - whole  # [O, 1] or [1, I]


METHOD = merged.Method(start, update, trained, restored)
attach = partial(merged.attach, METHOD)
