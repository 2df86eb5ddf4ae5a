"""Optimisers over an arena, and schedules as pure functions of the step."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adapters.arena import Arena
from trainer.contract.config import OptimizerSection

CHUNK = 2**22  # elements that are stepped at a time: what lies between is 16 MiB, not the size of the adapter


class FlatAdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), one flat slice for each group.

    The gradient is cast to the master's type here, once.
    """

    def __init__(self, arena: Arena, options: OptimizerSection) -> None:
        self.arena, self.options = arena, options
        self.first, self.second = torch.zeros_like(arena.master), torch.zeros_like(arena.master)
        self.count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        self.count += 1
        options, count = self.options, int(self.count)
        correction1, correction2 = 1 - options.beta1**count, 1 - options.beta2**count
        for group, part in ((group, part) for group, whole in self.arena.groups.items() for part in _chunks(whole)):
            master, grad = self.arena.master[part], self.arena.grad[part].float()
            first, second = self.first[part], self.second[part]
            first.lerp_(grad, 1 - options.beta1)
            second.mul_(options.beta2).addcmul_(grad, grad, value=1 - options.beta2)
            master.mul_(1 - rates[group] * options.weight_decay)
            scale = (second / correction2).sqrt_().add_(options.epsilon)
            master.addcdiv_(first, scale, value=-rates[group] / correction1)
        self.arena.publish()

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return {"first": self.first, "second": self.second, "count": self.count}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def _chunks(part: slice) -> list[slice]:
    return [slice(start, min(start + CHUNK, part.stop)) for start in range(part.start, part.stop, CHUNK)]


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


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter, arXiv 1608.03983); `progress` is 0 after the warm-up."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - progress


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def warmup_steps(warmup: float, total: int) -> int:
    """Warm-up in steps: below 1 it is a share of the run. Never the whole run."""
    return min(round(warmup * total) if warmup < 1 else round(warmup), max(total - 1, 0))
