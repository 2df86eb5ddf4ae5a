"""LoKr (Edalati et al. 2022, arXiv 2212.10650; LyCORIS): the Kronecker product of a small matrix and a LoRA update."""

from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lycoris import BACKEND, lokr
from trainer.adapters.sizes import Size
from trainer.contract.config import AdapterSection

NAMES = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


def start(shape: torch.Size, size: Size, options: AdapterSection) -> dict[str, Tensor]:
    """See `Method`. Of a convolution, factors are matrices, the pixels of the kernel in their columns, as LyCORIS' own
    are."""
    factor = -1 if options.factor == "auto" else options.factor
    made = lokr.weight_gen(torch.empty(shape, device="meta"), size.rank, tucker=False, factor=factor)
    found = {name: tensor for name, tensor in zip(NAMES, made, strict=True) if tensor is not None}
    return {name: tensor if name == "lokr_w2" else tensor.flatten(1) for name, tensor in found.items()}


def update(weight: Tensor, tensors: merged.Tensors, alpha: float) -> Tensor:
    """See `Method`."""
    held = [tensors.get(name) for name in NAMES]
    gamma = alpha or 1.0  # where both factors are whole there is no rank, and the scale is 1 whatever alpha says
    return lokr.diff_weight(*held, gamma=gamma, backend=BACKEND).reshape(weight.shape)


METHOD = merged.Method(start, update)
attach = partial(merged.attach, METHOD)
