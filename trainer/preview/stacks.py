"""Adapters side by side in one pair of matrices a layer, so that a recorded pass holds for any of them.

What a CUDA graph reads must stay where it is, and what it launches must not depend on which picture has which adapter.
So the ranks of all adapters in use stand one behind the other, filled up with zeros to a round number, and a table says
how much each picture has of each rank. Another strength is one small write, another adapter some copies on the device.

Shapes: B rows of the batch, G groups of layers, R ranks of all adapters together, I and O features.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.lora import geometry
from trainer.kernels.reference import REFERENCE, Kernels
from trainer.preview.slots import Matrices
from trainer.preview.strengths import Row
from trainer.protocols import Target

RANKS = (16, 32, 64, 128, 256)  # that are made room for; more are computed adapter by adapter
ROWS = 64  # of the table: a pass has fewer


class Form(NamedTuple):
    """What a recording depends on besides the batch's shapes: which layers are changed, and the ranks that fit."""

    targets: frozenset[Target]
    ranks: int


def form_of(used: Sequence[Matrices]) -> Form | None:
    """The form that holds these adapters in the UNet; None where they do not fit one."""
    targets = frozenset(target for one in used for target in one.updates if target.part == "unet")
    shifted = any(target.part == "unet" for one in used for target in one.shifts)
    needed = sum(map(_rank, used))
    ranks = next((ranks for ranks in RANKS if ranks >= needed), None)
    return None if shifted or ranks is None else Form(targets, ranks)


def _rank(held: Matrices) -> int:
    return max((len(one.down) for target, one in held.updates.items() if target.part == "unet"), default=0)


class Stack:
    """The matrices of one form.

    Args:
        form: layers and ranks.
        weights: of these layers, [O, I, ...].
        groups: of each layer, and how many there are.
        kernels: compute what stands between the products.
    """

    def __init__(
        self,
        form: Form,
        weights: dict[Target, Tensor],
        groups: dict[Target, int],
        count: int,
        kernels: Kernels = REFERENCE,
    ) -> None:
        self.form, self._groups, self._kernels = form, groups, kernels
        self._downs = {target: weight.new_zeros(form.ranks, *weight.shape[1:]) for target, weight in weights.items()}
        self._ups = {
            target: weight.new_zeros(len(weight), form.ranks, *[1] * (weight.dim() - 2))
            for target, weight in weights.items()
        }
        like = next(iter(weights.values()))
        self._table = like.new_zeros(count, ROWS, form.ranks)
        self._held: Sequence[Matrices] = ()

    @torch.no_grad()
    def write(self, used: Sequence[Matrices], rows: Sequence[Row]) -> None:
        """Take these adapters, and [B][K][G] strengths for them."""
        sizes = list(map(_rank, used))
        if len(used) != len(self._held) or any(one is not other for one, other in zip(used, self._held, strict=True)):
            self._copy(used, sizes)
            self._held = tuple(used)
        table = torch.zeros(len(self._table), ROWS, self.form.ranks)
        for number, row in enumerate(rows):
            strengths = torch.tensor(row).T  # [G, K]
            wide = strengths.repeat_interleave(torch.tensor(sizes), dim=1)
            table[:, number, : wide.shape[1]] = wide
        self._table.copy_(table)

    def _copy(self, used: Sequence[Matrices], sizes: Sequence[int]) -> None:
        """Put the adapters' matrices side by side: in few launches, since there are hundreds of layers."""
        torch._foreach_zero_([*self._downs.values(), *self._ups.values()])
        places: list[Tensor] = []
        values: list[Tensor] = []
        for one, first in zip(used, accumulate(sizes, initial=0), strict=False):
            for target, update in one.updates.items():
                if target in self._downs:
                    rows = slice(first, first + len(update.down))
                    places += [self._downs[target][rows], self._ups[target][:, rows]]
                    values += [update.down, update.up]
        torch._foreach_copy_(places, values)

    def add(self, target: Target, layer: nn.Module, x: Tensor, answer: Tensor) -> Tensor:
        """A layer's answer with what each row has of the adapters; one that has none of it gets its own bits back.

        In place: nobody else has it yet.
        """
        down, up = self._downs[target], self._ups[target]
        scale = self._table[self._groups[target], : len(x)]
        picture = down.dim() == 4
        hidden = F.conv2d(x, down, None, *geometry(layer)) if picture else F.linear(x, down)
        hidden = self._kernels.scale_rows(_rows(hidden, picture), scale)
        rows = _rows(answer, picture)
        _ = rows.flatten(0, 1).addmm_(hidden.flatten(0, 1), up.flatten(1).T)
        if rows.data_ptr() != answer.data_ptr():
            answer.copy_(rows.unflatten(1, answer.shape[2:]).permute(0, 3, 1, 2) if picture else rows.view_as(answer))
        return answer


def _rows(x: Tensor, picture: bool) -> Tensor:
    """[B, C, h, w] or [B, ..., C] -> [B, T, C], dense; a view where x is dense, channels last."""
    return (x.permute(0, 2, 3, 1) if picture else x).contiguous().view(len(x), -1, x.shape[1 if picture else -1])
