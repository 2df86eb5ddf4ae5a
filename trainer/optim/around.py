"""What stands around an optimiser where the optimiser stands: a guard, a loss scale, a limit, an average."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.optim.saved import load_around
from trainer.protocols import Optimizer


class Around:
    """Does as the optimiser within does; each kind says only what it changes. See `trainer.protocols.Optimizer`.

    Args:
        optimizer: steps the arena.
        arena: what is stepped.
    """

    def __init__(self, optimizer: Optimizer, arena: Arena) -> None:
        self.optimizer, self.arena = optimizer, arena

    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.step(rates)

    def settle(self, groups: Sequence[str]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.settle(groups)

    def shown(self) -> Tensor | None:
        """See `trainer.protocols.Optimizer`."""
        return self.optimizer.shown()

    def found(self) -> float:
        """See `trainer.protocols.Optimizer`."""
        return self.optimizer.found()

    def own(self) -> dict[str, Tensor]:
        """What it keeps itself, by names that the optimiser within has none of: part of `state`."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return {**self.optimizer.state(), **self.own()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        load_around(self.optimizer, self.own(), state)
