"""LoHa (Hyeon-Woo et al. 2022, arXiv 2108.06098): the element-wise product of two LoRA updates."""

from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lycoris import BACKEND, loha
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size

NAMES = ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a")  # in the order of LyCORIS' functions


def start(shape: torch.Size, size: Size, _: AdapterSection) -> dict[str, Tensor]:
    """See `Method`."""
    flat = torch.empty(shape[0], shape[1:].numel(), device="meta")
    return dict(zip(NAMES, loha.weight_gen(flat, size.rank), strict=False))


def update(weight: Tensor, tensors: merged.Tensors, alpha: float) -> Tensor:
    """See `Method`."""
    halves = [tensors[name] for name in NAMES]
    cores = tensors.get("hada_t1"), tensors.get("hada_t2")  # a Tucker decomposition, in others' files
    scale = torch.full((), alpha / len(halves[0]), dtype=halves[0].dtype, device=halves[0].device)
    return loha.diff_weight(*halves, *cores, gamma=scale, backend=BACKEND).reshape(weight.shape)


METHOD = merged.Method(start, update)
attach = partial(merged.attach, METHOD)
