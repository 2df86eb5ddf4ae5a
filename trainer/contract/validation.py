"""What the losses on held-out pictures say of a run. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

BANDS = 4  # of timesteps, from little noise to much, equally wide
PATIENCE = 3  # rounds that the lowest loss lies back, and the trend is taken over
RISE = 0.005  # above the lowest loss, as a part of it: less is the noise of a few pictures


@dataclass(frozen=True)
class Round:
    """What was measured after `step` steps.

    Attributes:
        step: optimiser steps done.
        loss: mean squared error on held-out pictures, unweighted.
        bands: the same of every band of timesteps.
        training: the same on what was trained on since the round before, its bands averaged; None where unknown.
    """

    step: int
    loss: float
    bands: tuple[float, ...]
    training: float | None = None


def lowest(rounds: Sequence[Round]) -> Round | None:
    """The round with the lowest loss; of equals the first."""
    return min(rounds, key=lambda one: one.loss, default=None)


def rounds_since_lowest(rounds: Sequence[Round]) -> int:
    """Rounds after the lowest one."""
    best = lowest(rounds)
    return sum(best is not None and one.step > best.step for one in rounds)


def over_fits(rounds: Sequence[Round]) -> bool:
    """Whether over-fitting has begun: for several rounds held-out pictures get worse while trained ones get better.

    Both are means of `PATIENCE` rounds against the `PATIENCE` before, and every one of the last lies above the lowest.

    Args:
        rounds: in the order of their steps.
    """
    best, known = lowest(rounds), [one for one in rounds if one.training is not None]
    if best is None or len(known) < 2 * PATIENCE:
        return False
    before, last = known[-2 * PATIENCE : -PATIENCE], known[-PATIENCE:]
    above = all(one.step > best.step and one.loss > best.loss * (1 + RISE) for one in last)
    rising = fmean(one.loss for one in last) > fmean(one.loss for one in before)
    falling = fmean(one.training or 0 for one in last) < fmean(one.training or 0 for one in before)
    return above and rising and falling


def round_of(event: Mapping) -> Round:
    """Read a `validation` event back.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    training = event.get("training")
    bands = tuple(float(loss) for loss in event["bands"])
    return Round(int(event["step"]), float(event["loss"]), bands, None if training is None else float(training))


def rounds_of(events: Sequence[Mapping], until: int) -> list[Round]:
    """The rounds among a run's events up to a step, in order; of a step that came twice the last."""
    found = {event["step"]: round_of(event) for event in events if event["kind"] == "validation"}
    return [found[step] for step in sorted(found) if step <= until]
