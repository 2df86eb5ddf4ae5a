"""Adapters side by side in one pair of matrices a layer, so that a recorded pass holds for any of them.

What a CUDA graph reads must stay where it is, and what it launches must not depend on which picture has which adapter.
So the ranks of all adapters in use stand one behind the other, filled up with zeros to a round number, and a table says
how much each picture has of each rank. Another strength is one small write, another adapter some copies on the device.

Shapes: B rows of the batch, G groups of layers, R ranks of all adapters together, I and O features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.lora import geometry
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
    """

    def __init__(self, form: Form, weights: dict[Target, Tensor], groups: dict[Target, int], count: int) -> None:
        self.form, self._groups = form, groups
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
        if len(used) != len(self._held) or any(one is not other for one, other in zip(used, self._held, strict=True)):
            self._copy(used)
            self._held = tuple(used)
        sizes = list(map(_rank, used))
        table = torch.zeros(len(self._table), ROWS, self.form.ranks)
        for number, row in enumerate(rows):
            strengths = torch.tensor(row).T  # [G, K]
            wide = strengths.repeat_interleave(torch.tensor(sizes), dim=1)
            table[:, number, : wide.shape[1]] = wide
        self._table.copy_(table)

    def _copy(self, used: Sequence[Matrices]) -> None:
        for target, down in self._downs.items():
            up, first = self._ups[target], 0
            _ = down.zero_(), up.zero_()
            for one in used:
                if (update := one.updates.get(target)) is not None:
                    last = first + len(update.down)
                    down[first:last].copy_(update.down)
                    up[:, first:last].copy_(update.up)
                first += _rank(one)

    def add(self, target: Target, layer: nn.Module, x: Tensor, answer: Tensor) -> Tensor:
        """A layer's answer with what each row has of the adapters; one that has none of it gets its own bits back."""
        down, up = self._downs[target], self._ups[target]
        scale = self._table[self._groups[target], : len(x)]
        if down.dim() == 4:
            hidden = F.conv2d(x, down, None, *geometry(layer))
            return answer + F.conv2d(_scaled(hidden, scale[:, :, None, None]), up)
        hidden = F.linear(x, down)
        scale = scale.view(len(x), *[1] * (x.dim() - 2), -1)
        return answer + F.linear(_scaled(hidden, scale), up)


def _scaled(hidden: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0.0, hidden * scale)  # infinity times 0 would be no number
