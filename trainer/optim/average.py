"""A running average of the adapter (Polyak & Juditsky 1992, doi 10.1137/0330046), of what was trained last the most."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.optim.around import Around
from trainer.protocols import Optimizer


def decay_at(count: int, decay: float) -> float:
    """Decay of an update, the first being 0: less at first, so that the start is soon forgotten.

    (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, until it reaches `decay`.
    """
    return min(decay, (1 + count) / (10 + count))


class Averaged(Around):
    """Keeps an average beside an optimiser's steps, in fp32.

    Args:
        optimizer: steps the arena.
        arena: its master is averaged after every step that was taken.
        decay: of the average.
        used: whether the average is what is shown and exported.
    """

    def __init__(self, optimizer: Optimizer, arena: Arena, decay: float, used: bool) -> None:
        super().__init__(optimizer, arena)
        self.decay, self.used = decay, used
        self.average = arena.master.clone()
        self._count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        if not self._count:
            self.average.copy_(self.arena.master)  # which may have been filled after this was made
        super().step(rates)
        self.average.lerp_(self.arena.master, 1 - decay_at(int(self._count), self.decay))
        self._count += 1

    def shown(self) -> Tensor | None:
        """See `trainer.protocols.Optimizer`."""
        return self.average if self.used and self._count else super().shown()

    def own(self) -> dict[str, Tensor]:
        """See `Around`."""
        return {"average": self.average, "average_count": self._count}
