"""A running average of the adapter (Polyak & Juditsky 1992, doi 10.1137/0330046), of what was trained last the most."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.optim.saved import load_around
from trainer.protocols import Optimizer


def decay_at(count: int, decay: float) -> float:
    """Decay of an update, the first being 0: less at first, so that the start is soon forgotten.

    (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, until it reaches `decay`.
    """
    return min(decay, (1 + count) / (10 + count))


class Averaged:
    """Keeps an average beside an optimiser's steps, in fp32; see `trainer.protocols.Optimizer`.

    Args:
        optimizer: steps the arena.
        arena: its master is averaged after every step that was taken.
        decay: of the average.
        used: whether the average is what is shown and exported.
    """

    def __init__(self, optimizer: Optimizer, arena: Arena, decay: float, used: bool) -> None:
        self.optimizer, self.arena, self.decay, self.used = optimizer, arena, decay, used
        self.average = arena.master.clone()
        self._count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.step(rates)
        self.average.lerp_(self.arena.master, 1 - decay_at(int(self._count), self.decay))
        self._count += 1

    def settle(self, groups: Sequence[str]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.settle(groups)

    def shown(self) -> Tensor | None:
        """See `trainer.protocols.Optimizer`."""
        return self.average if self.used else self.optimizer.shown()

    def found(self) -> float:
        """See `trainer.protocols.Optimizer`."""
        return self.optimizer.found()

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return {**self.optimizer.state(), **self._own()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        load_around(self.optimizer, self._own(), state)

    def _own(self) -> dict[str, Tensor]:
        return {"average": self.average, "average_count": self._count}
