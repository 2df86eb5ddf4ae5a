"""LoRA (Hu et al. 2021, arXiv 2106.09685): y = x W^T + b + s (x A^T) B^T with W and b frozen and s = alpha / rank.

The op is our own autograd function: three products forward, five backward, nothing saved but x and the rank
activations.

Shapes: N rows, I input features, O output features, R rank; B batch, P pixels.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.arena import Arena, Slot
from trainer.contract.config import AdapterSection
from trainer.protocols import Target

Shape = tuple[int, ...]
Mask = Callable[[Shape, Tensor], Tensor | None]  # shape of the rank activations, x -> dropout factors like x, or None


class LinearLora(torch.autograd.Function):
    """x [N, I], W [O, I], b [O] or None, A [R, I], B [O, R], mask [N, R] or None -> [N, O]."""

    @staticmethod
    def forward(ctx, x, weight, bias, A, B, scale, mask):  # noqa: D102, PLR0913
        hidden = x @ A.t()
        if mask is not None:
            hidden = hidden * mask
        y = F.linear(x, weight, bias).addmm_(hidden, B.t(), alpha=scale)
        ctx.save_for_backward(x, weight, A, B, hidden, mask)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, weight, A, B, hidden, mask = ctx.saved_tensors
        grad_hidden = torch.mm(grad, B).mul_(ctx.scale)
        grad_B = torch.mm(grad.t(), hidden).mul_(ctx.scale)
        if mask is not None:
            grad_hidden = grad_hidden * mask
        grad_A = grad_hidden.t() @ x
        grad_x = (grad @ weight).addmm_(grad_hidden, A) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_A, grad_B, None, None


class PixelLora(torch.autograd.Function):
    """The same for a 1x1 convolution, channels second: x [B, I, P], mask [B, R, P] or None -> [B, O, P]."""

    @staticmethod
    def forward(ctx, x, weight, bias, A, B, scale, mask):  # noqa: D102, PLR0913
        hidden = A @ x
        if mask is not None:
            hidden = hidden * mask
        y = weight @ x
        if bias is not None:
            y = y + bias[:, None]
        y = y.add_(B @ hidden, alpha=scale)
        ctx.save_for_backward(x, weight, A, B, hidden, mask)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, weight, A, B, hidden, mask = ctx.saved_tensors
        grad_hidden = (B.t() @ grad).mul_(ctx.scale)
        grad_B = torch.einsum("bop,brp->or", grad, hidden).mul_(ctx.scale)
        if mask is not None:
            grad_hidden = grad_hidden * mask
        grad_A = torch.einsum("brp,bip->ri", grad_hidden, x)
        grad_x = weight.t() @ grad + A.t() @ grad_hidden if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_A, grad_B, None, None


def no_mask(shape: Shape, x: Tensor) -> None:
    """Dropout off."""
    return


class LoraLayer(nn.Module):
    """A frozen linear layer or 1x1 convolution with a trained update beside it.

    Attributes:
        base: the frozen layer.
        A: [R, I]; B: [O, R].
        scale: alpha / rank, times the strength.
        mask: dropout factors for the rank activations.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, A: nn.Parameter, B: nn.Parameter, scale: float) -> None:
        super().__init__()
        self.base, self.A, self.B, self.scale = base, A, B, scale
        self.mask: Mask = no_mask

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] for a linear layer, [B, I, H, W] -> [B, O, H, W] for a convolution."""
        weight, bias = self.base.weight, self.base.bias
        if weight.dim() == 2:
            rows = x.reshape(-1, x.shape[-1])
            mask = self.mask((len(rows), len(self.A)), x)
            y = LinearLora.apply(rows, weight, bias, self.A, self.B, self.scale, mask)
            return y.view(*x.shape[:-1], -1)
        pixels = x.flatten(2)
        mask = self.mask((len(x), len(self.A), pixels.shape[2]), x)
        y = PixelLora.apply(pixels, weight.flatten(1), bias, self.A, self.B, self.scale, mask)
        return y.view(x.shape[0], -1, *x.shape[2:])


@dataclass
class LoraAdapter:
    """Every LoRA layer of a run, over one arena.

    Attributes:
        arena: the matrices.
        layers: target -> its layer, in the order of the model.
        rank, alpha: as configured.
    """

    arena: Arena
    layers: dict[Target, LoraLayer]
    rank: int
    alpha: float

    def matrices(self) -> dict[Target, tuple[Tensor, Tensor]]:
        """Return fp32 copies of (down, up) per target, in the shape of the layer: 4-D for a convolution."""
        found = {}
        for target, layer in self.layers.items():
            down, up = (self.arena.view(self.arena.master, f"{target}.{letter}").clone() for letter in "AB")
            if layer.base.weight.dim() == 4:
                down, up = down[..., None, None], up[..., None, None]
            found[target] = (down, up)
        return found

    def set_dropout(self, rate: float, generator: torch.Generator) -> None:
        """Drop rank activations; the generator is reseeded for every micro-step, so a resume needs no state of it."""

        def mask(shape: Shape, x: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():  # samples are drawn with the whole adapter
                return None
            kept = torch.rand(shape, generator=generator, device=generator.device) >= rate
            return kept.to(x.device, x.dtype).div_(1 - rate)

        for layer in self.layers.values():
            layer.mask = mask if rate else no_mask


def attach(targets: Iterable[Target], parts: dict[str, nn.Module], options: AdapterSection, seed: int) -> LoraAdapter:
    """Put a LoRA layer in the place of every target; the model's answer is unchanged until the first step.

    Args:
        targets: which layers.
        parts: the model's parts by name; layers are replaced in them.
        options: rank, alpha, init.
        seed: of A's random start.
    """
    found = {target: parts[target.part].get_submodule(target.path) for target in targets}
    anchor = next(iter(found.values())).weight
    slots = []
    for target, base in found.items():
        wide, narrow = base.weight.shape[1], base.weight.shape[0]
        slots.append(Slot(f"{target}.A", f"{target.part}.A", (options.rank, wide)))
        slots.append(Slot(f"{target}.B", f"{target.part}.B", (narrow, options.rank)))
    arena = Arena(slots, anchor.device, anchor.dtype)
    _initialise(arena, [slot for slot in slots if slot.name.endswith(".A")], options, seed)
    layers = {}
    for target, base in found.items():
        A, B = (arena.parameters[f"{target}.{letter}"] for letter in "AB")
        layers[target] = LoraLayer(base, A, B, options.alpha_value / options.rank)
        replace(parts[target.part], target.path, layers[target])
    return LoraAdapter(arena, layers, options.rank, options.alpha_value)


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


def replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` at a dotted path below `root`."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
