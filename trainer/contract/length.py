"""A run's length in the three ways that people count it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """The same length three times.

    Attributes:
        steps: optimiser steps.
        epochs: passes over the set.
        views: how often a picture that is learned is seen, on average.
    """

    steps: int
    epochs: float
    views: float

    def words(self) -> str:
        """Such as "300 steps = 15 epochs = each picture seen 60 times"."""
        steps = f"{self.steps} step{'s' * (self.steps != 1)}"
        epochs = f"{_short(self.epochs)} epoch{'s' * (self.epochs != 1)}"
        return f"{steps} = {epochs} = each picture seen {_short(self.views)} times"


def _short(count: float) -> str:
    """To a tenth; below one, to two digits."""
    return f"{round(count, 1):g}" if count >= 1 else f"{count:.2g}"
