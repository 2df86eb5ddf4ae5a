"""int8: weights rounded once, activations and gradients at every product, both products in whole numbers.

A weight row w is kept as s q with q in -127..127 and s = max|w| / 127; a row of activations likewise. In grad W the
weight's scales lie along the dimension that is summed, so they are multiplied into the gradient before it is rounded.
Weights of convolutions are widened for each call instead, and so are those of a few rows only.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.check import trouble

FEW = 16  # rows below which the rounding of activations costs more than it saves; the tensor cores' smallest tile, too
AMPERE = 8  # compute capability from which the kernels are worth it


@dataclass(frozen=True)
class Int8:
    """See `trainer.weights.plain.Weight`.

    Attributes:
        q: int8, in the weight's shape and memory format.
        scale: [O] float32.
        bias: [O] in the type `dtype`, or None.
        dtype: of activations.
    """

    q: Tensor
    scale: Tensor
    bias: Tensor | None
    dtype: torch.dtype

    @property
    def shape(self) -> torch.Size:
        """See `Weight`."""
        return self.q.shape

    @property
    def device(self) -> torch.device:
        """See `Weight`."""
        return self.q.device

    def forward(self, x: Tensor) -> Tensor:
        """See `Weight`."""
        if len(x) < FEW:
            return F.linear(x, self.whole().flatten(1), self.bias)
        kernels = kernels_for(self.device)
        rows, scale = kernels.quantise(x, None)
        return kernels.product(rows, self.q.flatten(1), scale, self.scale, self.bias, x.dtype)

    def backward(self, grad: Tensor) -> Tensor:
        """See `Weight`."""
        if len(grad) < FEW:
            return grad @ self.whole().flatten(1)
        kernels = kernels_for(self.device)
        rows, scale = kernels.quantise(grad, self.scale)
        return kernels.product(rows, kernels.transpose(self.q.flatten(1)), scale, None, None, grad.dtype)

    def whole(self) -> Tensor:
        """See `Weight`."""
        return kernels_for(self.device).widen(self.q, self.scale, self.dtype)


def to_int8(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Int8:
    """Round a weight of any float type, row by row, where it is."""
    rows = weight.flatten(1).float()
    scale = rows.abs().amax(1).div_(127)
    steps = (rows / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round_().clamp_(-127, 127)
    q = torch.empty_like(weight, dtype=torch.int8).copy_(steps.view(weight.shape))
    return Int8(q, scale, None if bias is None else bias.to(dtype), dtype)


def kernels_for(device: torch.device) -> ModuleType:
    """The module that multiplies on a device: our Triton kernels on a GPU that runs them, torch elsewhere."""
    # Triton is a large import, and there is none for Windows and for machines without a GPU.
    name = "triton" if device.type == "cuda" and _runs_triton() else "torch"
    return importlib.import_module(f"trainer.weights.int8_{name}")


@cache
def _runs_triton() -> bool:
    return torch.cuda.get_device_capability()[0] >= AMPERE and not trouble()
