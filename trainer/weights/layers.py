"""Frozen layers over any `Weight`, and how those of a model are put in the place of its own.

Nothing but a layer's answer leaves it: neither a widened weight nor, in a convolution, the input is kept for the
backward pass. Module paths stay as they were.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from trainer.weights.int8 import to_int8
from trainer.weights.nf4 import BLOCK, to_nf4
from trainer.weights.plain import Plain, Weight


class Rows(torch.autograd.Function):
    """x [N, I], a `Weight` [O, I] -> [N, O]."""

    @staticmethod
    def forward(ctx, x, weight):  # noqa: D102
        ctx.weight = weight
        return weight.forward(x)

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        return ctx.weight.backward(grad), None


class Convolution(torch.autograd.Function):
    """x [B, I, H, W], a `Weight` [O, I, kh, kw] -> [B, O, H', W']."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, dilation):  # noqa: D102
        ctx.weight, ctx.size, ctx.geometry = weight, x.shape, (stride, padding, dilation)
        return F.conv2d(x, weight.whole(), weight.bias, *ctx.geometry)

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        return conv2d_input(ctx.size, ctx.weight.whole(), grad, *ctx.geometry), None, None, None, None


class FrozenLayer(nn.Module):
    """A linear layer or convolution over a weight that is not a parameter.

    Attributes:
        frozen: its weight.
        geometry: stride, padding and dilation of a convolution.
    """

    def __init__(self, frozen: Weight, geometry: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.frozen, self.geometry = frozen, geometry

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] for a linear layer, [B, I, H, W] -> [B, O, H', W'] for a convolution."""
        if self.geometry:
            return Convolution.apply(x, self.frozen, *self.geometry)
        return Rows.apply(x.reshape(-1, x.shape[-1]), self.frozen).view(*x.shape[:-1], -1)


def frozen(layer: nn.Module) -> Weight:
    """The weight of a layer that is one of torch's or ours."""
    return layer.frozen if isinstance(layer, FrozenLayer) else Plain(layer)


def join(found: Sequence[nn.Module]) -> Weight | None:
    """Linear layers of the same input -> one weight over all of them, of which each layer then holds its rows.

    None where they are not plain, or have biases. In fewer bits they stay apart: rounded together, the gradient would
    have one scale for all of them.
    """
    if not all(isinstance(layer, nn.Linear) and layer.bias is None for layer in found):
        return None
    whole = nn.Linear(1, 1, bias=False, device="meta")
    whole.weight = nn.Parameter(torch.cat([layer.weight for layer in found]), requires_grad=False)
    for layer, rows in zip(found, whole.weight.split([len(layer.weight) for layer in found]), strict=True):
        layer.weight = nn.Parameter(rows, requires_grad=False)
    return Plain(whole)


@dataclass(frozen=True)
class Storage:
    """A way to store a layer's weight.

    Attributes:
        convert: (weight, bias, working type) -> how it is stored, on the same device.
        bytes: (size of the weight, rows of it) -> what it takes.
    """

    convert: Callable[[Tensor, Tensor | None, torch.dtype], Weight]
    bytes: Callable[[int, int], float]


INT8 = Storage(to_int8, lambda size, rows: size + 4 * rows)
NF4 = Storage(to_nf4, lambda size, rows: size / 2 + size / BLOCK)  # a scale is a byte
# How the base is stored -> how its (linear layers, convolutions) are.
STORAGES = {"int8": (INT8, INT8), "nf4": (NF4, INT8), "streamed": (INT8, INT8)}


def layers(roots: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """(path, layer) of every linear layer and convolution below some named modules."""
    for name, root in roots:
        for path, module in root.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                yield f"{name}.{path}", module


def store(
    found: Iterable[tuple[str, nn.Linear | nn.Conv2d]],
    model: nn.Module,
    base: str,
    device: torch.device,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> None:
    """Replace layers of a model, one after the other, so that never more than one is held twice.

    Args:
        found: (path, layer); their weights are of any float type, on any device, and are given up.
        model: in which they are replaced.
        base: a row of `STORAGES`.
        device: where the stored weights shall be.
        dtype: working type.
        memory_format: of convolutions.
    """
    for path, layer in list(found):
        weight, geometry = layer.weight.data.to(device), ()
        if isinstance(layer, nn.Conv2d):
            weight, geometry = weight.to(memory_format=memory_format), (layer.stride, layer.padding, layer.dilation)
        bias = None if layer.bias is None else layer.bias.data.to(device)
        converted = STORAGES[base][bool(geometry)].convert(weight, bias, dtype)
        replace(model, path, FrozenLayer(converted, geometry))
        layer.weight = None  # the list holds on to the layer


def keep_no_inputs(model: nn.Module) -> None:
    """Put convolutions that keep nothing in the place of torch's, over the same weights; not of 1x1 ones, which an
    adapter may sit on."""
    for path, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            replace(model, path, FrozenLayer(Plain(layer), (layer.stride, layer.padding, layer.dilation)))


def stored_bytes(layer: nn.Linear | nn.Conv2d, base: str, itemsize: int) -> float:
    """What a layer takes if the base is stored so; it may be on the meta device.

    Args:
        layer: one of those that `store` replaces.
        base: a row of `STORAGES`, or `plain`.
        itemsize: bytes of the working type.
    """
    size, rows = layer.weight.numel(), len(layer.weight)
    bias = 0 if layer.bias is None else rows * itemsize
    if base == "plain":
        return size * itemsize + bias
    return STORAGES[base][isinstance(layer, nn.Conv2d)].bytes(size, rows) + bias


def replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` at a dotted path below `root`."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
