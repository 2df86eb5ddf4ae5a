"""LoRA (Hu et al. 2021, arXiv 2106.09685): y = x W^T + b + s (x A^T) B^T with W and b frozen and s a scale.

The op is our own autograd function: three products forward, five backward, nothing saved but x and the rank
activations, the gradients of A and B added where they belong. The products with W are the frozen weight's own, however
it is stored (`trainer.weights`).

Shapes: N rows, I input features, O output features, R rank; B batch, P pixels.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.adapter import Adapter
from trainer.adapters.arena import Arena, Slot
from trainer.adapters.dropout import Dropout
from trainer.adapters.packed import pack, per_sample
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size, is_spatial, sizes_of
from trainer.protocols import Target
from trainer.weights.layers import FrozenLayer, frozen, replace
from trainer.weights.plain import Weight

Shape = tuple[int, ...]
Layer = nn.Linear | nn.Conv2d | FrozenLayer


class LinearLora(torch.autograd.Function):
    """x [N, I], a `Weight` [O, I], A [R, I], B [O, R], mask [N, R] or None -> [N, O].

    The gradients of A and B are added into the tensors given for them; where None is given, autograd gets them.
    """

    @staticmethod
    def forward(ctx, x, weight, A, B, grads, scale, mask):  # noqa: D102, PLR0913
        hidden = x @ A.t()
        if mask is not None:
            hidden = hidden * mask
        y = weight.forward(x).addmm_(hidden, B.t(), alpha=scale)
        ctx.save_for_backward(x, A, B, hidden, mask)
        ctx.weight, ctx.scale, ctx.grads = weight, scale, grads
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, A, B, hidden, mask = ctx.saved_tensors
        scale, (into_A, into_B) = ctx.scale, ctx.grads
        grad_hidden = grad @ B  # scale is left to the products below, which take it for nothing
        if mask is not None:
            grad_hidden = grad_hidden * mask
        grad_B = _product(into_B, grad.t(), hidden, scale)
        grad_A = _product(into_A, grad_hidden.t(), x, scale)
        grad_x = ctx.weight.backward(grad).addmm_(grad_hidden, A, alpha=scale) if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_A, grad_B, None, None, None


class PixelLora(torch.autograd.Function):
    """The same for a 1x1 convolution, channels second: x [B, I, P], mask [B, R, P] or None -> [B, O, P]."""

    @staticmethod
    def forward(ctx, x, weight, A, B, grads, scale, mask):  # noqa: D102, PLR0913
        hidden = A @ x
        if mask is not None:
            hidden = hidden * mask
        y = weight.whole().flatten(1) @ x
        if weight.bias is not None:
            y += weight.bias[:, None]
        y = y.add_(B @ hidden, alpha=scale)
        ctx.save_for_backward(x, A, B, hidden, mask)
        ctx.weight, ctx.scale, ctx.grads = weight, scale, grads
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, A, B, hidden, mask = ctx.saved_tensors
        scale, (into_A, into_B) = ctx.scale, ctx.grads
        grad_hidden = B.t() @ grad
        if mask is not None:
            grad_hidden = grad_hidden * mask
        grad_B = _sum(into_B, (grad @ hidden.mT).sum(0), scale)
        grad_A = _sum(into_A, (grad_hidden @ x.mT).sum(0), scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (ctx.weight.whole().flatten(1).t() @ grad).add_(A.t() @ grad_hidden, alpha=scale)
        return grad_x, None, grad_A, grad_B, None, None, None


def _product(into: Tensor | None, left: Tensor, right: Tensor, scale: float) -> Tensor | None:
    if into is None:
        return torch.mm(left, right).mul_(scale)
    into.addmm_(left, right, alpha=scale)
    return None


def _sum(into: Tensor | None, value: Tensor, scale: float) -> Tensor | None:
    if into is None:
        return value.mul_(scale)
    into.add_(value, alpha=scale)
    return None


class LoraLayer(nn.Module):
    """A frozen linear layer or convolution with a trained update beside it.

    Attributes:
        base: the frozen layer.
        A: [R, I], or [R, I, kh, kw] for a convolution that sees more than one pixel; B: [O, R].
        scale: what the update is multiplied by.
        dropout: shared by all layers.
        off: whether it answers as the frozen layer alone, see `Adapter.off`.
        strengths: a factor for each sample of a batch, see `Adapter.faded`.
    """

    off = False
    strengths: Tensor | None = None

    def __init__(self, base: Layer, A: nn.Parameter, B: nn.Parameter, scale: float, dropout: Dropout) -> None:
        super().__init__()
        self.base, self.A, self.B, self.scale, self.dropout = base, A, B, scale, dropout

    @property
    def weight(self) -> Weight:
        """What the base multiplies by."""
        return frozen(self.base)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] for a linear layer, [B, I, H, W] -> [B, O, H', W'] for a convolution."""
        if self.off:
            return self.base(x)
        if self.strengths is not None:
            return self._faded(x, self.strengths)
        if self.A.dim() == 4:
            return self._pictures(x)
        if len(self.weight.shape) == 2:
            return self._rows(x)
        if x.is_contiguous(memory_format=torch.channels_last):  # its pixels are rows already
            return self._rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        pixels = x.flatten(2)
        mask = self.dropout.mask(self, x, (len(x), pixels.shape[2], len(self.A)))
        mask = None if mask is None else mask.view(len(x), -1, len(self.A)).mT
        y = PixelLora.apply(pixels, self.weight, *self._rest(mask))
        return y.view(x.shape[0], -1, *x.shape[2:])

    def _faded(self, x: Tensor, strengths: Tensor) -> Tensor:
        factors = per_sample(strengths, x) * self.scale
        if len(self.weight.shape) == 2:
            return self.base(x) + F.linear(F.linear(x, self.A) * factors, self.B)
        A = self.A if self.A.dim() == 4 else self.A[..., None, None]
        hidden = F.conv2d(x, A, None, *geometry(self.base)) * factors
        return self.base(x) + F.conv2d(hidden, self.B[..., None, None])

    def _rows(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        mask = self.dropout.mask(self, x, (len(x), len(rows) // len(x), len(self.A)))
        y = LinearLora.apply(rows, self.weight, *self._rest(mask))
        return y.view(*x.shape[:-1], -1)

    def _pictures(self, x: Tensor) -> Tensor:
        """A convolution to the ranks, then a 1x1 convolution (LoCon); autograd is as fast here as we would be."""
        hidden = F.conv2d(x, self.A, None, *geometry(self.base))
        samples, ranks, *size = hidden.shape
        mask = self.dropout.mask(self, x, (samples, size[0] * size[1], ranks))
        if mask is not None:
            hidden = hidden * mask.view(samples, *size, ranks).permute(0, 3, 1, 2)
        return self.base(x) + F.conv2d(hidden, self.B[:, :, None, None]) * self.scale

    def _rest(self, mask: Tensor | None) -> tuple[object, ...]:
        return self.A, self.B, (self.A.grad, self.B.grad), self.scale, mask


def attach(targets: Iterable[Target], parts: Mapping[str, nn.Module], options: AdapterSection, seed: int) -> Adapter:
    """Put a LoRA layer in the place of every target; the model's answer is unchanged until the first step.

    Args:
        targets: which layers.
        parts: the model's parts by name; layers are replaced in them.
        options: ranks, alphas, init, dropout.
        seed: of A's random start.

    Raises:
        UserError: see `sizes_of`.
    """
    found = {target: parts[target.part].get_submodule(target.path) for target in targets}
    sizes = sizes_of({target: frozen(base).shape for target, base in found.items()}, options)
    anchor = frozen(next(iter(found.values())))
    slots = [slot for target, size in sizes.items() for slot in slots_of(target, frozen(found[target]).shape, size)]
    arena = Arena(slots, anchor.device, anchor.dtype)
    start(arena, [slot for slot in slots if slot.name.endswith(".A")], options, seed)
    dropout, layers = Dropout.of(options, anchor.device), {}
    for target, size in sizes.items():
        A, B = (arena.parameters[f"{target}.{letter}"] for letter in "AB")
        layers[target] = LoraLayer(found[target], A, B, size.scale, dropout)
        replace(parts[target.part], target.path, layers[target])
    for part in parts.values():
        pack(part, set(layers.values()))
    return Adapter(arena, layers, sizes, dropout, file_tensors)


def slots_of(target: Target, shape: Shape, size: Size) -> tuple[Slot, Slot]:
    """Places for the two matrices of a layer whose weight is of that shape."""
    down = (size.rank, *shape[1:]) if is_spatial(shape) else (size.rank, shape[1])
    return Slot(f"{target}.A", f"{target.part}.A", down), Slot(f"{target}.B", f"{target.part}.B", (shape[0], size.rank))


def file_tensors(adapter: Adapter, target: Target) -> dict[str, Tensor]:
    """See `Adapter.tensors`: both matrices in the shape of the layer, 4-D for a convolution."""
    down, up = (adapter.view(f"{target}.{letter}") for letter in "AB")
    if len(adapter.layers[target].weight.shape) == 4:
        down, up = down if down.dim() == 4 else down[..., None, None], up[..., None, None]
    return {"lora_down.weight": down, "lora_up.weight": up}


def geometry(layer: Layer) -> tuple[Any, ...]:
    """Stride, padding and dilation of a convolution."""
    return layer.geometry if isinstance(layer, FrozenLayer) else (layer.stride, layer.padding, layer.dilation)


def start(arena: Arena, downs: list[Slot], options: AdapterSection, seed: int) -> None:
    """Fill in A, drawn on the CPU. B stays zero."""
    generator = torch.Generator().manual_seed(seed)
    for slot in downs:
        arena.view(arena.master, slot.name).copy_(drawn_down(slot.shape, options.init, generator))
    arena.publish()


def drawn_down(shape: Shape, init: str, generator: torch.Generator | None = None) -> Tensor:
    """A's start, [R, I, k...]; without a generator torch's own draws it.

    `kaiming`: uniform up to 1 / sqrt(inputs), as in the reference code. `gaussian`: of a standard deviation of 1 / R,
    as in PEFT.
    """
    if init == "gaussian":
        return torch.randn(shape, generator=generator) / shape[0]
    return (torch.rand(shape, generator=generator) * 2 - 1) * (1 / math.sqrt(math.prod(shape[1:])))
