"""Max-norm regularisation of an adapter: no layer's update grows beyond a norm."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.formats.sizes import Size
from trainer.optim.around import Around
from trainer.protocols import Optimizer, Target


class NormLimit(Around):
    """Holds the Frobenius norm of every layer's update, scale included, below a limit (kohya's scale_weight_norms).

    A matrix of R ranks has its norm from two products of R x R, so the update itself is never made. Layers of the same
    sizes are measured together. What is too much is taken from both matrices alike.

    Args:
        optimizer: steps the arena.
        arena: of a LoRA, with matrices A and B.
        sizes: of its layers.
        limit: of the norm.
    """

    def __init__(self, optimizer: Optimizer, arena: Arena, sizes: Mapping[Target, Size], limit: float) -> None:
        super().__init__(optimizer, arena)
        self.sizes, self.limit = sizes, limit
        self._hold(sizes)

    def _hold(self, targets: Iterable[Target]) -> None:
        """From now on the norms of these; of layers of the same sizes all A, all B and all scales stand together."""
        self._targets, alike = tuple(targets), defaultdict[tuple[torch.Size, ...], list[Target]](list)
        for target in self._targets:
            alike[tuple(self._view(target, letter).shape for letter in "AB")].append(target)
        self._alike = []
        for same in alike.values():
            downs, ups = ([self._view(target, letter) for target in same] for letter in "AB")
            scales = torch.tensor([self.sizes[target].scale for target in same], device=self.arena.master.device)
            self._alike.append((downs, ups, scales))

    def _view(self, target: Target, letter: str) -> Tensor:
        return self.arena.view(self.arena.master, f"{target}.{letter}")

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        super().step(rates)
        for downs, ups, scales in self._alike:
            factors = (self.limit / (update_norms(downs, ups) * scales + 1e-12)).clamp(max=1).sqrt().unbind()
            torch._foreach_mul_(downs, factors)
            torch._foreach_mul_(ups, factors)
        self.arena.publish()

    def settle(self, groups: Sequence[str]) -> None:
        """See `trainer.protocols.Optimizer`. Their norms are held already, and measured again they would drift."""
        super().settle(groups)
        left = {group.partition(".")[0] for group in groups}
        self._hold(target for target in self._targets if target.part not in left)


def update_norms(downs: list[Tensor], ups: list[Tensor]) -> Tensor:
    """n times [R, ...] and [O, R] -> [n], the Frobenius norms of the products: |BA|^2 = sum of (B'B) * (AA')."""
    down, up = torch.stack(downs).flatten(2), torch.stack(ups)
    return ((up.mT @ up) * (down @ down.mT)).sum((1, 2)).clamp(min=0).sqrt()
