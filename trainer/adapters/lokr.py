"""LoKr (Edalati et al. 2022, arXiv 2212.10650; LyCORIS): the Kronecker product of a small matrix and a LoRA update."""

from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lycoris import BACKEND, lokr
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size

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
    if "lokr_t2" in tensors:
        return _tucker(tensors, alpha).reshape(weight.shape)
    held = [tensors.get(name) for name in NAMES]
    gamma = alpha or 1.0  # both factors whole, there is no rank, and the scale is 1: see `AdapterRow.unscaled`
    return lokr.diff_weight(*held, gamma=gamma, backend=BACKEND).reshape(weight.shape)


def _tucker(tensors: merged.Tensors, alpha: float) -> Tensor:
    """A convolution's in others' files, whose second factor has a core; LyCORIS' function takes a side of it that is
    not the rank for the rank, its modules do not."""
    first = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    core, left, right = (tensors[name] for name in ("lokr_t2", "lokr_w2_a", "lokr_w2_b"))
    second = torch.einsum("ij...,ip,jr->pr...", core, left, right).flatten(1)
    return torch.kron(first, second) * (alpha / len(right))


METHOD = merged.Method(start, update)
attach = partial(merged.attach, METHOD)
