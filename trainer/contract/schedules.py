"""Learning-rate schedules: pure functions of how far a run is, so that a resume needs the step number only. No torch.

A shape takes `progress`, 0 after the warm-up and 1 at the end of the run, and returns a share of the peak.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from trainer.contract.catalog import optimizer_row, pick, resolve

if TYPE_CHECKING:
    from trainer.contract.config import RunConfig

Shape = Callable[[float], float]


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def restarts(progress: float, cycles: int) -> float:
    """Half a cosine, `cycles` times over, each from 1 (SGDR, arXiv 1608.03983, with cycles of one length)."""
    return cosine(progress * cycles % 1.0) if progress < 1 else 0.0


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - progress


def polynomial(progress: float, power: float) -> float:
    """What is left of the run, to a power."""
    return math.pow(1 - progress, power)


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def warmup_steps(warmup: float, total: int) -> int:
    """Warm-up in steps: below 1 it is a share of the run. Never the whole run."""
    return min(round(warmup * total) if warmup < 1 else round(warmup), max(total - 1, 0))


def schedule_name(config: "RunConfig") -> str:
    """The schedule's name in the catalogue, `auto` resolved."""
    name = config.schedule.name
    return optimizer_row(config.optimizer.name).schedule if name == "auto" else name


def share(config: "RunConfig", total: int) -> Callable[[float], float]:
    """The schedule of a run of `total` steps: step -> share of the peak rate, for the step that follows it.

    The warm-up is a straight line that reaches the peak with the first step after it; the shape then falls to
    `schedule.final`.
    """
    options = config.schedule
    row = pick("schedule.name", schedule_name(config))
    taken = [name.partition(".")[2] for name in row.reads]
    shape: Shape = partial(resolve(row), **{name: getattr(options, name) for name in taken})
    warmup = warmup_steps(options.warmup, total)

    def at(step: float) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return options.final + (1 - options.final) * shape((step - warmup) / max(1, total - warmup))

    return at


def curve(config: "RunConfig", total: int, points: int = 200) -> list[tuple[int, float]]:
    """(step, share of the peak rate) over a whole run, at most `points` of them, the first and the last step among
    them.
    """
    at, last = share(config, total), total - 1
    count = min(points, total)
    chosen = sorted({round(index * last / max(1, count - 1)) for index in range(count)})
    return [(step, at(step)) for step in chosen]
