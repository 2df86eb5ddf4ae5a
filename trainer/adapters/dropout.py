"""What is left out of an adapter while it learns: rank activations, whole ranks, whole layers."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainer.contract.config import AdapterSection


@dataclass
class Dropout:
    """The masks of one micro-step.

    A block that is computed again in the backward pass must see the mask it saw the first time, so each layer's is kept
    until the next micro-step.

    Attributes:
        rate: share of rank activations set to zero.
        generator: seeded for every micro-step, so that a resume needs no state of it.
        rank_rate: share of ranks left out for a whole sample.
        module_rate: share of layers left out; what stays is not made larger for it, as kohya has it.
    """

    rate: float
    generator: torch.Generator
    rank_rate: float = 0.0
    module_rate: float = 0.0
    _masks: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, options: AdapterSection, device: torch.device) -> "Dropout":
        """As a run's options say; drawn on a GPU itself, where a recorded step sees them change."""
        generator = torch.Generator(device if device.type == "cuda" else "cpu")
        return cls(options.dropout, generator, options.rank_dropout, options.module_dropout)

    def begin(self) -> None:
        """Forget the masks of the micro-step before."""
        self._masks.clear()

    def mask(self, layer: nn.Module, x: Tensor, shape: tuple[int, int, int], layers: int = 1) -> Tensor | None:
        """Factors for the rank activations of a layer, of x's type and on its device; None where nothing is dropped.

        Args:
            layer: whose mask it is.
            x: its input.
            shape: samples, rows of a sample, and ranks of all layers together.
            layers: of equally many ranks, side by side.

        Returns:
            [samples x rows, ranks].
        """
        if not (self.rate or self.rank_rate or self.module_rate) or not torch.is_grad_enabled():
            return None  # samples are drawn with the whole adapter
        if id(layer) not in self._masks:
            self._masks[id(layer)] = self._draw(shape, layers).to(x.device, x.dtype)
        return self._masks[id(layer)]

    def _draw(self, shape: tuple[int, int, int], layers: int) -> Tensor:
        samples, rows, ranks = shape
        each = ranks // layers
        factors = torch.ones((), device=self.generator.device)
        for rate, size, share in (
            (self.rate, (samples, rows, layers, each), 1 / (1 - self.rate)),
            (self.rank_rate, (samples, 1, layers, each), 1 / (1 - self.rank_rate)),
            (self.module_rate, (1, 1, layers, 1), 1.0),
        ):
            if rate:
                drawn = torch.rand(size, generator=self.generator, device=self.generator.device)
                factors = factors * (drawn >= rate) * share
        return factors.expand(samples, rows, layers, each).reshape(samples * rows, ranks)
