"""NF4: four bits a weight, at the quantiles of a normal distribution, a scale for every 64 of them (QLoRA, Dettmers et
al. 2023, arXiv 2305.14314, sections 2 and 3). The format and its kernels are bitsandbytes'; a weight is widened for
each product.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.contract.errors import UserError

BLOCK = 64  # weights that share a scale
FUNCTIONS = "bitsandbytes.functional"


@dataclass(frozen=True)
class Nf4:
    """See `trainer.weights.plain.Weight`; for linear layers.

    Attributes:
        packed: [O I / 2, 1] uint8, two weights in each.
        state: the scales, themselves rounded to 8 bits.
        shape: [O, I].
        bias: [O] in the type `dtype`, or None.
        dtype: of activations.
    """

    packed: Tensor
    state: Any
    shape: torch.Size
    bias: Tensor | None
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """See `Weight`."""
        return self.packed.device

    def forward(self, x: Tensor) -> Tensor:
        """See `Weight`."""
        return F.linear(x, self.whole(), self.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """See `Weight`."""
        return grad @ self.whole()

    def whole(self) -> Tensor:
        """See `Weight`."""
        return importlib.import_module(FUNCTIONS).dequantize_4bit(self.packed, self.state).view(self.shape)


def to_nf4(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Nf4:
    """Pack a weight [O, I] of any float type, where it is."""
    packed, state = bitsandbytes().quantize_4bit(
        weight.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    state.dtype = dtype  # what it is widened to
    return Nf4(packed, state, weight.shape, None if bias is None else bias.to(dtype), dtype)


def installed() -> bool:
    """Whether bitsandbytes is there."""
    return importlib.util.find_spec("bitsandbytes") is not None


def bitsandbytes() -> Any:
    """Its functions; imported here, since few runs need it.

    Raises:
        UserError: it is not installed.
    """
    if not installed():
        raise UserError(
            "an NF4 base needs bitsandbytes, which is not installed",
            "engine.base",
            "Run `pip install bitsandbytes`, or take engine.base=int8.",
        )
    return importlib.import_module(FUNCTIONS)
