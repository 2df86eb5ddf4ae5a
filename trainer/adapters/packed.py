"""Several LoRA layers that read the same input, as one: the query, key and value of an attention.

One product with the base instead of one each, and the small products side by side in a batch: 9 kernels instead of 26
for a self-attention, forward and backward. The matrices stay where they are in the arena, the layers stay layers.

Shapes: N rows, I input features, n layers of O output features each, R rank.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.weights.layers import join
from trainer.weights.plain import Weight

if TYPE_CHECKING:
    from trainer.adapters.lora import LoraLayer


class PackedProduct(torch.autograd.Function):
    """x [N, I], a `Weight` [n O, I], mask [N, n R] or None -> [N, n O].

    A [n R, I] and B [n, O, R] and their gradients, into which is added, are views of the arena; `leaves` are the
    parameters that autograd knows.
    """

    @staticmethod
    def forward(ctx, x, weight, matrices, grads, scale, mask, *leaves):  # noqa: D102
        A, B = matrices
        hidden = x @ A.t()
        if mask is not None:
            hidden = hidden * mask
        y = weight.forward(x)
        _side_by_side(y, len(B)).baddbmm_(_side_by_side(hidden, len(B)), B.mT, alpha=scale)
        ctx.save_for_backward(x, hidden, mask)
        ctx.weight, ctx.matrices, ctx.grads, ctx.scale, ctx.leaves = weight, matrices, grads, scale, len(leaves)
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, hidden, mask = ctx.saved_tensors
        (A, B), (into_A, into_B) = ctx.matrices, ctx.grads
        each, grad_hidden = _side_by_side(grad, len(B)), torch.empty_like(hidden)
        _side_by_side(grad_hidden, len(B)).baddbmm_(each, B, beta=0)  # 0: what was there is not read
        if mask is not None:
            grad_hidden *= mask
        into_B.baddbmm_(each.mT, _side_by_side(hidden, len(B)), alpha=ctx.scale)
        into_A.addmm_(grad_hidden.t(), x, alpha=ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = ctx.weight.backward(grad).addmm_(grad_hidden, A, alpha=ctx.scale)
        return grad_x, *(None,) * (5 + ctx.leaves)


def _side_by_side(rows: Tensor, count: int) -> Tensor:
    """[N, n X] -> [n, N, X], in place."""
    return rows.unflatten(1, (count, -1)).transpose(0, 1)


class Packed:
    """Layers of the same sizes over the same input.

    Args:
        layers: in the order of their matrices in the arena.
        weight: their bases, one below the other.
    """

    def __init__(self, layers: "Sequence[LoraLayer]", weight: Weight) -> None:
        self.layers, self.weight = layers, weight
        self.scale, self.dropout = layers[0].scale, layers[0].dropout
        self.leaves = [matrix for layer in layers for matrix in (layer.A, layer.B)]
        downs, ups = [layer.A for layer in layers], [layer.B for layer in layers]
        self.matrices = _over(downs).flatten(0, 1), _over(ups)
        self.grads = _over([A.grad for A in downs]).flatten(0, 1), _over([B.grad for B in ups])

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, T, I] -> n times [B, T, O], views of one tensor."""
        rows = x.reshape(-1, x.shape[-1])
        A, B = self.matrices
        if self.layers[0].off:
            return self.weight.forward(rows).view(*x.shape[:-1], len(B), -1).unbind(-2)
        if self.layers[0].strengths is not None:
            hidden = ((x @ A.t()) * per_sample(self.layers[0].strengths, x)).flatten(0, -2)
            y = self.weight.forward(rows)
            _side_by_side(y, len(B)).baddbmm_(_side_by_side(hidden, len(B)), B.mT, alpha=self.scale)
            return y.view(*x.shape[:-1], len(B), -1).unbind(-2)
        mask = self.dropout.mask(self, x, (len(x), len(rows) // len(x), len(A)), len(B))
        y = PackedProduct.apply(rows, self.weight, self.matrices, self.grads, self.scale, mask, *self.leaves)
        return y.view(*x.shape[:-1], len(B), -1).unbind(-2)


def per_sample(strengths: Tensor, x: Tensor) -> Tensor:
    """Factors [B] as something x [k B, ...] can be multiplied by."""
    factors = strengths.to(x.device, x.dtype).repeat(len(x) // len(strengths))
    return factors.view(-1, *[1] * (x.dim() - 1))


def pack(root: nn.Module, trained: Collection[nn.Module]) -> None:
    """Compute layers together wherever a module says in `shared` which of its layers read the same input.

    The module finds the result in `packed`. Layers that are not all trained, or whose bases cannot be joined, are left
    as they are.

    Args:
        root: of the modules.
        trained: the adapter's layers.
    """
    for module in root.modules():
        layers = [getattr(module, name) for name in getattr(module, "shared", ())]
        if not layers or not all(layer in trained for layer in layers):
            continue
        if len({layer.scale for layer in layers}) > 1:
            continue
        if _adjacent([layer.A for layer in layers]) and _adjacent([layer.B for layer in layers]):
            weight = join([layer.base for layer in layers])
            module.packed = None if weight is None else Packed(layers, weight)


def _over(parts: Sequence[Tensor]) -> Tensor:
    """Matrices of one shape that follow each other in memory -> one tensor over them, [n, ...]."""
    first = parts[0]
    return first.detach().as_strided((len(parts), *first.shape), (first.numel(), *first.stride()))


def _adjacent(parts: Sequence[Tensor]) -> bool:
    """Whether matrices are of one shape and follow each other in memory without gaps."""
    first, step = parts[0], parts[0].numel() * parts[0].element_size()
    return all(
        part.shape == first.shape and part.data_ptr() == first.data_ptr() + index * step
        for index, part in enumerate(parts)
    )
