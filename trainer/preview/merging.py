"""Adapters built into the weights for as long as every picture has the same strengths: then they cost nothing a step.

The base's own tensors are never written to: a layer is lent another weight, and gets its own back. So nothing drifts,
and a stop at any moment leaves the base as it was.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.adapters.read import AdapterFile
from trainer.formats.block_weights import Layout
from trainer.preview.slots import Matrices
from trainer.preview.strengths import Row
from trainer.protocols import Target


class Merger:
    """Lends a model's layers other weights.

    Args:
        parts: of the model.
        layout: of its UNet.
    """

    def __init__(self, parts: Mapping[str, nn.Module], layout: Layout) -> None:
        self._parts, self._layout = parts, layout
        self._own: dict[Target, Tensor] = {}
        self._merged: tuple[tuple[int, ...], Row] | None = None

    def fits(self, adapters: Sequence[AdapterFile], row: Row) -> bool:
        """Whether adapters can be built in at these strengths: plain weights, biases and norms untouched."""
        used = [adapter for adapter, groups in zip(adapters, row, strict=True) if any(groups[1:])]
        targets = {target for adapter in used for target in adapter.updates if target.part == "unet"}
        shifted = any(target.part == "unet" for adapter in used for target in adapter.shifts)
        layers = (self._parts[target.part].get_submodule(target.path) for target in targets)
        return bool(targets) and not shifted and all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers)

    @torch.no_grad()
    def merge(self, adapters: Sequence[AdapterFile], held: Sequence[Matrices], row: Row) -> None:
        """Build the adapters into the UNet at a picture's strengths, [K][G]; nothing is done where they are."""
        wanted = tuple(map(id, adapters)), row
        if wanted == self._merged:
            return
        self.restore()
        for matrices, groups in zip(held, row, strict=True):
            for target, update in matrices.updates.items():
                strength = groups[self._layout.group(target.part, target.path)]
                if target.part == "unet" and strength:
                    weight = self._lent(target)
                    change = update.up.flatten(1).float() @ update.down.flatten(1).float()
                    weight.copy_(weight.float().add_(change.view_as(weight), alpha=strength))
        self._merged = wanted

    def _lent(self, target: Target) -> Tensor:
        """The weight that a layer has for now."""
        parameter = self._parts[target.part].get_submodule(target.path).weight
        if target not in self._own:
            self._own[target] = parameter.data
            parameter.data = parameter.data.clone(memory_format=torch.preserve_format)
        return parameter.data

    def restore(self) -> None:
        """Give every layer its own weight back."""
        for target, own in self._own.items():
            self._parts[target.part].get_submodule(target.path).weight.data = own
        self._own.clear()
        self._merged = None
