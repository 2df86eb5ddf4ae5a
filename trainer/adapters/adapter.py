"""What every method makes: trained layers over one arena."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.adapters.dropout import Dropout
from trainer.formats.sizes import Size
from trainer.protocols import Target


@dataclass
class Adapter:
    """Every trained layer of a run.

    Attributes:
        arena: what is trained.
        layers: target -> its layer, in the order of the model; one whose `off` is set answers as the base does.
        sizes: target -> its rank and scale.
        dropout: shared by all layers.
        named: (adapter, target) -> a layer's tensors as a file has them, see `tensors`.
    """

    arena: Arena
    layers: dict[Target, Any]
    sizes: Mapping[Target, Size]
    dropout: Dropout
    named: Callable[["Adapter", Target], dict[str, Tensor]]

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

    def view(self, name: str) -> Tensor:
        """What a slot holds, as it is trained: fp32."""
        return self.arena.view(self.arena.master, name)

    def tensors(self) -> dict[Target, dict[str, Tensor]]:
        """Return fp32 copies per target, by what stands behind the module's name in a file, with its alpha."""
        return {
            target: {"alpha": torch.tensor(self.sizes[target].alpha)}
            | {name: tensor.clone() for name, tensor in self.named(self, target).items()}
            for target in self.layers
        }
