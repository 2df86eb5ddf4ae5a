"""What a frozen weight can do, and the weight that is stored as it is.

Shapes: N rows, I input features, O output features; a convolution's weight is [O, I, kh, kw].
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Weight(Protocol):
    """A frozen weight with its bias. No gradient of either is ever wanted, and nothing that it makes is kept.

    Attributes:
        shape: [O, I] or [O, I, kh, kw].
        dtype: number type of what comes in and goes out.
        device: where it is multiplied.
        bias: [O] or None.
    """

    @property
    def shape(self) -> torch.Size:
        """See the class."""

    @property
    def dtype(self) -> torch.dtype:
        """See the class."""

    @property
    def device(self) -> torch.device:
        """See the class."""

    @property
    def bias(self) -> Tensor | None:
        """See the class."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, I] -> x W^T + b, [N, O]; of a 1x1 convolution too."""

    def backward(self, grad: Tensor) -> Tensor:
        """Rows [N, O] -> grad W, [N, I]."""

    def whole(self) -> Tensor:
        """The weight in the number type `dtype`, for one use."""


@dataclass(frozen=True)
class Plain:
    """See `Weight`: that of a module, read from it at every use."""

    module: nn.Linear | nn.Conv2d

    @property
    def shape(self) -> torch.Size:
        """See `Weight`."""
        return self.module.weight.shape

    @property
    def dtype(self) -> torch.dtype:
        """See `Weight`."""
        return self.module.weight.dtype

    @property
    def device(self) -> torch.device:
        """See `Weight`."""
        return self.module.weight.device

    @property
    def bias(self) -> Tensor | None:
        """See `Weight`."""
        return self.module.bias

    def forward(self, x: Tensor) -> Tensor:
        """See `Weight`."""
        return F.linear(x, self.module.weight.flatten(1), self.module.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """See `Weight`."""
        return grad @ self.module.weight.flatten(1)

    def whole(self) -> Tensor:
        """See `Weight`."""
        return self.module.weight
