"""Max-norm regularisation of an adapter: no layer's update grows beyond a norm."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.protocols import Optimizer, Target


class NormLimit:
    """Holds the Frobenius norm of every layer's update, scale included, below a limit (kohya's scale_weight_norms).

    A matrix of R ranks has its norm from two products of R x R, so the update itself is never made. Layers of the same
    sizes are measured together. What is too much is taken from both matrices alike. Stands where the optimiser stands.
    """

    def __init__(self, optimizer: Optimizer, adapter: Adapter, limit: float) -> None:
        self.optimizer, self.adapter, self.limit = optimizer, adapter, limit
        self._alike: dict[tuple[torch.Size, torch.Size], list[Target]] = {}
        for target in adapter.layers:
            sizes = tuple(adapter.view(f"{target}.{letter}").shape for letter in "AB")
            self._alike.setdefault(sizes, []).append(target)

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.step(rates)
        for targets in self._alike.values():
            downs, ups = ([self.adapter.view(f"{target}.{letter}") for target in targets] for letter in "AB")
            scales = torch.tensor([self.adapter.sizes[target].scale for target in targets], device=downs[0].device)
            factors = (self.limit / (update_norms(downs, ups) * scales + 1e-12)).clamp(max=1).sqrt().unbind()
            torch._foreach_mul_(downs, factors)
            torch._foreach_mul_(ups, factors)
        self.adapter.arena.publish()

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return self.optimizer.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.optimizer.load(state)


def update_norms(downs: list[Tensor], ups: list[Tensor]) -> Tensor:
    """n times [R, ...] and [O, R] -> [n], the Frobenius norms of the products: |BA|^2 = sum of (B'B) * (AA')."""
    down, up = torch.stack(downs).flatten(2), torch.stack(ups)
    return ((up.mT @ up) * (down @ down.mT)).sum((1, 2)).clamp(min=0).sqrt()
