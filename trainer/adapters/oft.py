"""OFT (Qiu et al. 2023, arXiv 2306.07280): every block of outputs is turned, so no weight gets longer or shorter."""

from functools import partial

import torch
from torch import Tensor

from trainer.adapters import merged
from trainer.adapters.lycoris import BACKEND, diag_oft
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size

BLOCKS = "oft_blocks"
# Every client reads alpha x outputs as a bound on the norm of all angles, A1111 also where it is 0; nothing gets near
# this one.
NO_BOUND = 1000.0


def start(shape: torch.Size, size: Size, _: AdapterSection) -> dict[str, Tensor]:
    """See `Method`. The rank is the largest size of a block."""
    blocks, _ = diag_oft.weight_gen(torch.empty(shape, device="meta"), size.rank)
    return {BLOCKS: blocks}


def update(weight: Tensor, tensors: merged.Tensors, alpha: float) -> Tensor:
    """See `Method`."""
    bound = None if alpha >= NO_BOUND else alpha * len(weight)  # to look at the angles is to wait for the device
    whole, scales = weight.float(), tensors.get("rescale")
    return diag_oft.diff_weight(whole, tensors[BLOCKS].float(), scales, constraint=bound, backend=BACKEND)


METHOD = merged.Method(start, update, alpha=lambda _: NO_BOUND)
attach = partial(merged.attach, METHOD)
