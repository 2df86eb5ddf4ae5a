"""From steps, epochs or views of a picture to a run's length, and back."""

import math
from collections.abc import Sequence
from fractions import Fraction

from trainer.contract.config import TrainingSection
from trainer.contract.length import Length
from trainer.pictures.epochs import Turn, epoch_views, steps_per_epoch


def places(turns: Sequence[Turn], learned: int) -> Fraction:
    """Places in batches that one view of every picture that is learned takes.

    Pictures of regularisation come on top; repeats and shares tell what part of the views a picture gets.

    Args:
        turns: of all pictures, at every resolution.
        learned: pictures that are not of regularisation, each once.
    """
    views = epoch_views(turns)
    mine = sum(count for (pool, _), count in views.items() if not pool.prior)
    return learned * Fraction(sum(views.values()), mine)


def planned_steps(training: TrainingSection, turns: Sequence[Turn], learned: int, processes: int = 1) -> int:
    """Optimiser steps of a run, from whichever of steps, epochs and views was given.

    Steps = views x pictures / (batch size x accumulation x processes): a larger batch does not lengthen a run.

    Args:
        training: what was given.
        turns, learned: as for `places`.
        processes: that train together.
    """
    if training.steps:
        return training.steps
    if training.epochs:
        per_epoch = steps_per_epoch(turns, training.batch_size, training.accumulation, processes)
        return max(1, math.ceil(training.epochs * per_epoch))
    views = (training.views or 1) * places(turns, learned)
    return max(1, math.ceil(views / (training.batch_size * training.accumulation * processes)))


def length_of(steps: int, training: TrainingSection, turns: Sequence[Turn], learned: int, processes: int = 1) -> Length:
    """What a number of steps comes to; arguments as for `planned_steps`."""
    epochs = steps / steps_per_epoch(turns, training.batch_size, training.accumulation, processes)
    seen = steps * training.batch_size * training.accumulation * processes
    return Length(steps, epochs, float(seen / places(turns, learned)))
