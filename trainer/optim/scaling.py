"""What is done to the gradient before a step: clipping, and the loss scale of fp16."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.contract.errors import UserError
from trainer.optim.around import Around
from trainer.protocols import Optimizer

FIRST_SCALE, GOOD_STEPS = 2.0**16, 2000
MOST_SKIPPED = 50  # steps in a row: by then the loss scale is so small that it was not to blame


@torch.no_grad()
def clip_gradient(arena: Arena, limit: float) -> Tensor:
    """Scale the whole gradient down to a largest norm (Pascanu et al., arXiv 1211.5063).

    Args:
        arena: holds the gradient.
        limit: largest norm; 0 measures only.

    Returns:
        The norm before clipping, a scalar on the device.
    """
    norm = torch.linalg.vector_norm(arena.grad, dtype=torch.float32)
    if limit:
        arena.grad.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


class Checked(Around):
    """Clips the gradient, and tells from the norm whether a step may be taken: nothing else steps a run.

    Attributes:
        overflowed: whether the last step was left out as some of a scaled loss are; that is not worth a word.
    """

    overflowed = False

    @torch.no_grad()
    def clip(self, limit: float, loss: Tensor) -> Tensor:
        """As `clip_gradient`; the norm is no number where the loss is none.

        Args:
            limit: of the norm; 0 measures only.
            loss: the step's, a scalar on the device.
        """
        return clip_gradient(self.arena, limit) + torch.zeros_like(loss).where(loss.isfinite(), torch.nan)

    def scaled(self, loss: Tensor) -> Tensor:
        """What the backward pass begins with."""
        return loss


class Guard(Checked):
    """Leaves out a step whose loss or gradient is not finite: nothing of it ever gets into the adapter.

    On a CPU the optimiser is not called. On a GPU, where asking would make the host wait in every step, the device puts
    zeros in the place of the gradient: the optimiser's momentum goes on, the step adds nothing of its own.
    """

    _skip = False

    @torch.no_grad()
    def clip(self, limit: float, loss: Tensor) -> Tensor:
        """See `Checked`."""
        norm = super().clip(limit, loss)
        if self.arena.grad.is_cuda:
            self.arena.grad.masked_fill_(~norm.isfinite(), 0.0)
        else:
            self._skip = not bool(norm.isfinite())
        return norm

    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        if not self._skip:
            super().step(rates)


class LossScale(Checked):
    """fp16 training of an arena (Micikevicius et al., arXiv 1710.03740).

    The loss is multiplied, so that small gradients do not vanish; a step whose gradient overflows is left out and the
    factor halved; after many good steps it doubles.

    Start, factors and interval are those of torch.amp.GradScaler. Finding out waits for the device once a step, which
    only cards without bf16 pay.

    Attributes:
        factor: scalar on the device; it stays where it is, so that a recorded graph sees it change.
        good: steps since it changed.
        skipped: steps left out in a row, the last one with them.
    """

    def __init__(self, optimizer: Optimizer, arena: Arena) -> None:
        super().__init__(optimizer, arena)
        self.factor = torch.full((), FIRST_SCALE, device=arena.master.device)
        self.good = torch.zeros((), dtype=torch.int64)
        self.skipped = 0

    @property
    def overflowed(self) -> bool:  # type: ignore[override]
        """See `Checked`."""
        return bool(self.skipped)

    @torch.no_grad()
    def clip(self, limit: float, loss: Tensor) -> Tensor:
        """See `Checked`; of the gradient without the factor."""
        self.arena.grad.copy_(self.arena.added).div_(self.factor)
        norm = super().clip(limit, loss)
        self.skipped = 0 if bool(norm.isfinite()) else self.skipped + 1
        return norm

    def scaled(self, loss: Tensor) -> Tensor:
        """See `Checked`."""
        return loss * self.factor

    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`.

        Raises:
            UserError: no step was possible for a long time.
        """
        if self.skipped:
            self.good.zero_()
            self.factor.mul_(0.5)
        else:
            super().step(rates)
            self.good += 1
        if self.skipped >= MOST_SKIPPED:
            raise UserError(
                f"{MOST_SKIPPED} steps in a row gave gradients that fp16 cannot hold",
                "model.dtype",
                "Start again with model.dtype=fp32, or with a third of the learning rate.",
            )
        if self.good == GOOD_STEPS:
            self.good.zero_()
            self.factor.mul_(2.0)

    def own(self) -> dict[str, Tensor]:
        """See `Around`."""
        return {"scale": self.factor, "scale_good": self.good}
