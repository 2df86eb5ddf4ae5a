"""LoRA (Hu et al. 2021, arXiv 2106.09685): y = x W^T + b + s (x A^T) B^T with W and b frozen and s = alpha / rank.

The op is our own autograd function: three products forward, five backward, nothing saved but x and the rank
activations, the gradients of A and B added where they belong. The products with W are the frozen weight's own, however
it is stored (`trainer.weights`).

Shapes: N rows, I input features, O output features, R rank; B batch, P pixels.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.arena import Arena, Slot
from trainer.adapters.packed import pack, per_sample
from trainer.contract.config import AdapterSection
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


@dataclass
class Dropout:
    """Rank dropout: the masks of one micro-step.

    A block that is computed again in the backward pass must see the mask it saw the first time, so each layer's is kept
    until the next micro-step.

    Attributes:
        rate: share of rank activations set to zero.
        generator: seeded for every micro-step, so that a resume needs no state of it.
    """

    rate: float
    generator: torch.Generator
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the masks of the micro-step before."""
        self._masks.clear()

    def mask(self, layer: nn.Module, shape: Shape, x: Tensor) -> Tensor | None:
        """Factors for the rank activations of a layer, of x's type; None where nothing is dropped."""
        if not self.rate or not torch.is_grad_enabled():  # samples are drawn with the whole adapter
            return None
        if id(layer) not in self._masks:
            kept = torch.rand(shape, generator=self.generator, device=self.generator.device) >= self.rate
            self._masks[id(layer)] = kept.to(x.device, x.dtype).div_(1 - self.rate)
        return self._masks[id(layer)]


class LoraLayer(nn.Module):
    """A frozen linear layer or 1x1 convolution with a trained update beside it.

    Attributes:
        base: the frozen layer.
        A: [R, I]; B: [O, R].
        scale: alpha / rank, times the strength.
        dropout: shared by all layers.
        off: whether it answers as the frozen layer alone, see `LoraAdapter.off`.
        strengths: a factor for each sample of a batch, see `LoraAdapter.faded`.
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
        """[..., I] -> [..., O] for a linear layer, [B, I, H, W] -> [B, O, H, W] for a convolution."""
        if self.off:
            return self.base(x)
        if self.strengths is not None:
            return self._faded(x, self.strengths)
        if len(self.weight.shape) == 2:
            return self._rows(x)
        if x.is_contiguous(memory_format=torch.channels_last):  # its pixels are rows already
            return self._rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        pixels = x.flatten(2)
        mask = self.dropout.mask(self, (len(x), len(self.A), pixels.shape[2]), x)
        y = PixelLora.apply(pixels, self.weight, *self._rest(mask))
        return y.view(x.shape[0], -1, *x.shape[2:])

    def _faded(self, x: Tensor, strengths: Tensor) -> Tensor:
        factors = per_sample(strengths, x) * self.scale
        if len(self.weight.shape) == 2:
            return self.base(x) + F.linear(F.linear(x, self.A) * factors, self.B)
        A, B = self.A[..., None, None], self.B[..., None, None]
        return self.base(x) + F.conv2d(F.conv2d(x, A) * factors, B)

    def _rows(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        mask = self.dropout.mask(self, (len(rows), len(self.A)), x)
        y = LinearLora.apply(rows, self.weight, *self._rest(mask))
        return y.view(*x.shape[:-1], -1)

    def _rest(self, mask: Tensor | None) -> tuple[object, ...]:
        return self.A, self.B, (self.A.grad, self.B.grad), self.scale, mask


@dataclass
class LoraAdapter:
    """Every LoRA layer of a run, over one arena.

    Attributes:
        arena: the matrices.
        layers: target -> its layer, in the order of the model.
        rank, alpha: as configured.
        dropout: of the rank activations.
    """

    arena: Arena
    layers: dict[Target, LoraLayer]
    rank: int
    alpha: float
    dropout: Dropout

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within this the model answers as it does without the adapter."""
        for layer in self.layers.values():
            layer.off = True
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.off = False

    @contextmanager
    def faded(self, strengths: Tensor) -> Iterator[None]:
        """Within this each sample has the adapter at a strength of its own: [B], or a batch of several times B.

        For pictures only: nothing learns from it, and recorded graphs know nothing of it.
        """
        for layer in self.layers.values():
            layer.strengths = strengths
        try:
            with torch.no_grad():
                yield
        finally:
            for layer in self.layers.values():
                layer.strengths = None

    def matrices(self) -> dict[Target, tuple[Tensor, Tensor]]:
        """Return fp32 copies of (down, up) per target, in the shape of the layer: 4-D for a convolution."""
        found = {}
        for target, layer in self.layers.items():
            down, up = (self.arena.view(self.arena.master, f"{target}.{letter}").clone() for letter in "AB")
            if len(layer.weight.shape) == 4:
                down, up = down[..., None, None], up[..., None, None]
            found[target] = (down, up)
        return found


def attach(
    targets: Iterable[Target], parts: Mapping[str, nn.Module], options: AdapterSection, seed: int
) -> LoraAdapter:
    """Put a LoRA layer in the place of every target; the model's answer is unchanged until the first step.

    Args:
        targets: which layers.
        parts: the model's parts by name; layers are replaced in them.
        options: rank, alpha, init.
        seed: of A's random start.
    """
    found = {target: parts[target.part].get_submodule(target.path) for target in targets}
    anchor = frozen(next(iter(found.values())))
    slots = []
    for target, base in found.items():
        out, wide = frozen(base).shape[:2]
        slots.append(Slot(f"{target}.A", f"{target.part}.A", (options.rank, wide)))
        slots.append(Slot(f"{target}.B", f"{target.part}.B", (out, options.rank)))
    arena = Arena(slots, anchor.device, anchor.dtype)
    _initialise(arena, [slot for slot in slots if slot.name.endswith(".A")], options, seed)
    layers = {}
    generator = torch.Generator(anchor.device if anchor.device.type == "cuda" else "cpu")
    dropout = Dropout(options.dropout, generator)
    for target, base in found.items():
        A, B = (arena.parameters[f"{target}.{letter}"] for letter in "AB")
        layers[target] = LoraLayer(base, A, B, options.alpha_value / options.rank, dropout)
        replace(parts[target.part], target.path, layers[target])
    for part in parts.values():
        pack(part, set(layers.values()))
    return LoraAdapter(arena, layers, options.rank, options.alpha_value, dropout)


def _initialise(arena: Arena, downs: list[Slot], options: AdapterSection, seed: int) -> None:
    """A: Kaiming-uniform as the reference code has it, or N(0, 1 / rank); drawn on the CPU. B stays zero."""
    generator = torch.Generator().manual_seed(seed)
    for slot in downs:
        if options.init == "gaussian":
            start = torch.randn(slot.shape, generator=generator) / options.rank
        else:
            bound = 1 / math.sqrt(slot.shape[1])
            start = (torch.rand(slot.shape, generator=generator) * 2 - 1) * bound
        arena.view(arena.master, slot.name).copy_(start)
    arena.publish()
