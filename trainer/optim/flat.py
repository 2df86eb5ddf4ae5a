"""Our own optimisers: elementwise rules over one flat slice for each group of an arena, a chunk at a time."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.contract.config import OptimizerSection
from trainer.optim.saved import put_back

CHUNK = 2**22  # elements that are stepped at a time: what lies between is 16 MiB, not the size of the adapter

# (master, gradient, moments, learning rate, options, number of this step from 1): changes master and moments
Rule = Callable[[Tensor, Tensor, Sequence[Tensor], float, OptimizerSection, int], None]


class Flat:
    """A rule over an arena; see `trainer.protocols.Optimizer`. The gradient is cast to the master's type here, once.

    Args:
        arena: is stepped.
        options: decays, epsilon.
        rule: how.
        moments: names of the tensors that it keeps, each like the master, zero at first.
    """

    def __init__(self, arena: Arena, options: OptimizerSection, rule: Rule, moments: Sequence[str]) -> None:
        self.arena, self.options, self._rule = arena, options, rule
        self._moments = {name: torch.zeros_like(arena.master) for name in moments}
        self._count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self._count += 1
        for group, rate in rates.items():
            for part in _chunks(self.arena.groups[group]):
                moments = [moment[part] for moment in self._moments.values()]
                gradient = self.arena.grad[part].float()
                self._rule(self.arena.master[part], gradient, moments, rate, self.options, int(self._count))
        self.arena.publish()

    def settle(self, groups: Sequence[str]) -> None:
        """See `trainer.protocols.Optimizer`. They are as they are."""

    def shown(self) -> Tensor | None:
        """See `trainer.protocols.Optimizer`."""
        return None

    def found(self) -> float:
        """See `trainer.protocols.Optimizer`."""
        return 1.0

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return {**self._moments, "count": self._count}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        put_back(state, self.state())


def _chunks(part: slice) -> list[slice]:
    return [slice(start, min(start + CHUNK, part.stop)) for start in range(part.start, part.stop, CHUNK)]


def adamw(arena: Arena, options: OptimizerSection) -> Flat:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""
    return Flat(arena, options, _adamw, ("first", "second"))


def _adamw(
    master: Tensor, grad: Tensor, moments: Sequence[Tensor], rate: float, options: OptimizerSection, count: int
) -> None:
    first, second = moments
    correction1, correction2 = 1 - options.beta1**count, 1 - options.beta2**count
    first.lerp_(grad, 1 - options.beta1)
    second.mul_(options.beta2).addcmul_(grad, grad, value=1 - options.beta2)
    master.mul_(1 - rate * options.weight_decay)
    scale = (second / correction2).sqrt_().add_(options.epsilon)
    master.addcdiv_(first, scale, value=-rate / correction1)


def lion(arena: Arena, options: OptimizerSection) -> Flat:
    """The sign of an interpolated momentum (Chen et al., arXiv 2302.06675, algorithm 2)."""
    return Flat(arena, options, _lion, ("first",))


def _lion(
    master: Tensor, grad: Tensor, moments: Sequence[Tensor], rate: float, options: OptimizerSection, count: int
) -> None:
    (first,) = moments
    master.mul_(1 - rate * options.weight_decay)
    master.add_(torch.lerp(grad, first, options.beta1).sign_(), alpha=-rate)
    first.lerp_(grad, 1 - options.beta2)
