"""How long a run would be, told while it is still a form."""

from typing import NamedTuple

from app.views import pictures
from app.views.eyes import EYES, kind_of
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.length import Length
from trainer.pictures.crops import plan
from trainer.pictures.epochs import Row, Turn, histogram
from trainer.pictures.gather import crop_options, gather
from trainer.pictures.holdout import candidate, held_out
from trainer.pictures.length import length_of, planned_steps

# What a length is counted in: (words, setting).
UNITS = [("times each picture is seen", "views"), ("steps", "steps"), ("passes over the set", "epochs")]


class Planned(NamedTuple):
    """A run as far as its pictures tell it.

    Attributes:
        length: as the trainer will count it.
        pictures: that it learns from, those of regularisation too.
        held_out: that it measures itself with instead.
        rows: the shapes that they are seen in.
    """

    length: Length
    pictures: int
    held_out: int
    rows: list[Row]


def planned(config: RunConfig) -> Planned | None:
    """What a run will do with its pictures; None where none of them can be read.

    Raises:
        UserError: the sets or the base cannot be used.
    """
    eye, options = EYES[kind_of(config.model.base)], config.dataset
    found = gather(options)[0]
    held = held_out([candidate(one, one.entry.id) for one in found], config.validation.share, config.validation.seed)
    kept = [one for one in found if one.entry.id not in held]
    sized = [(one, size) for one in kept if (size := one.entry.size or pictures.size(one.path))]
    learned = sum(not one.prior for one, _ in sized)
    if not learned:
        return None
    wanted = crop_options(options, eye.resolutions[0], eye.step)
    shown = plan([(one.entry, size) for one, size in sized], wanted)
    again = [one for one, _ in sized] * len(wanted.resolutions)
    turns = [Turn(seen.bucket, one.repeats, one.prior, one.share) for one, seen in zip(again, shown, strict=True)]
    steps = planned_steps(config.training, turns, learned)
    rows = histogram(turns, config.training.batch_size)
    return Planned(length_of(steps, config.training, turns, learned), len(sized), len(found) - len(kept), rows)


def planned_or_none(config: RunConfig) -> Planned | None:
    """As `planned`; None too where the sets or the base cannot be used, which is said at their own fields."""
    try:
        return planned(config)
    except UserError:
        return None
