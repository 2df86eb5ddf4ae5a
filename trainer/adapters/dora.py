"""DoRA (Liu et al. 2024, arXiv 2402.09353): a LoRA that turns each column of a weight, and a factor that scales it.

Columns are those of an input, as in the paper; the only kind that every client reads alike. Trained is how much longer
a column gets, not its length: bf16 would round the length, and the start would not be the base.
"""

import math
from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lycoris import BACKEND, weight_decompose
from trainer.adapters.sizes import Size
from trainer.contract.config import AdapterSection

DOWN, UP, LENGTHS = "lora_down.weight", "lora_up.weight", "dora_scale"


def start(shape: torch.Size, size: Size, options: AdapterSection) -> dict[str, Tensor]:
    """Kaiming or Gaussian, zero, and no longer than they are."""
    down = (size.rank, *shape[1:])
    if options.init == "gaussian":
        drawn = torch.randn(down) / size.rank
    else:
        drawn = (torch.rand(down) * 2 - 1) / math.sqrt(math.prod(shape[1:]))
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
    return {**tensors, LENGTHS: tensors[LENGTHS].float() / lengths(weight) - 1}


def update(weight: Tensor, tensors: merged.Tensors, alpha: float) -> Tensor:
    """See `Method`."""
    down, up, whole = tensors[DOWN].float(), tensors[UP].float(), weight.float()
    turned = whole + (up.flatten(1) @ down.flatten(1)).view_as(whole) * (alpha / len(down))
    return weight_decompose(turned, tensors[LENGTHS].float(), wd_on_out=False, backend=BACKEND) - whole


METHOD = merged.Method(start, update, trained, restored)
attach = partial(merged.attach, METHOD)
