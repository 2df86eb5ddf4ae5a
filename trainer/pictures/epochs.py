"""How often each picture is seen in an epoch, and how many batches that makes.

The rule. A picture without a share is seen as often as it repeats. A concept with a share gets that part of what is
learned in an epoch, and its pictures divide it by their repeats; what the shares leave over goes to the other pictures,
divided by theirs. An epoch is as short as this allows with no picture seen less often than it repeats, so that every
picture is seen. Where a picture's part is no whole number, it is seen once more in some epochs than in others, in turn.
Where every picture has a share, the shares count against each other.

Pictures of regularisation come on top of what is learned, at most as many as of it (DreamBooth, arXiv 2208.12242, pairs
them one to one); a larger set takes turns, epoch after epoch.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TypeVar

from trainer.contract.errors import UserError
from trainer.pictures.buckets import Bucket

Key = TypeVar("Key", bound=Hashable)


class Share(NamedTuple):
    """The part of what is learned in an epoch that a concept gets.

    Attributes:
        concept: whose; tells it from all others of a run.
        part: above 0, at most 1.
    """

    concept: str
    part: float


class Pool(NamedTuple):
    """Pictures that divide their views by their repeats: those of regularisation, of a share, or all others."""

    prior: bool = False
    share: Share | None = None


class Turn(NamedTuple):
    """A picture at one resolution, as an epoch counts it.

    Attributes:
        bucket: its shape; a batch holds one shape.
        repeats: how often it is seen in an epoch, or against the others of its share.
        prior: it is one of regularisation.
        share: of its concept, None where it has none.
    """

    bucket: Bucket
    repeats: int = 1
    prior: bool = False
    share: Share | None = None

    @property
    def pool(self) -> Pool:
        """Those that it divides views with."""
        return Pool(self.prior, None if self.prior else self.share)


class Row(NamedTuple):
    """A bucket in an epoch.

    Attributes:
        bucket: its shape.
        pictures: that are in it.
        views: of its pictures, before the last batch is completed.
        batches: over all processes.
    """

    bucket: Bucket
    pictures: int
    views: int
    batches: int


def epoch_views(turns: Sequence[Turn]) -> dict[tuple[Pool, Bucket], int]:
    """How many views every pool has in an epoch, bucket by bucket; in each, at least as many as its pictures repeat.

    Those of regularisation may have fewer. Each bucket gets its part, the remainder goes to the largest fractions.

    Raises:
        UserError: the shares are more than there is, or leave nothing for pictures without one.
    """
    there: dict[Pool, Counter[Bucket]] = {}
    for turn in turns:
        there.setdefault(turn.pool, Counter())[turn.bucket] += turn.repeats
    views = _learned({pool: sum(repeats.values()) for pool, repeats in there.items() if not pool.prior})
    learned = sum(views.values())
    for pool in there.keys() - views.keys():
        own = sum(there[pool].values())
        views[pool] = min(own, learned or own)
    return {
        (pool, bucket): count
        for pool, repeats in there.items()
        for bucket, count in apportion(views[pool], dict(sorted(repeats.items()))).items()
    }


def _learned(repeats: Mapping[Pool, int]) -> dict[Pool, int]:
    """Views of each pool in an epoch, from the repeats of its pictures."""
    parts = {pool: Fraction(str(pool.share.part)) for pool in repeats if pool.share}
    given = sum(parts.values(), Fraction())
    alone = len(parts) == len(repeats)
    if given > 1 or (given == 1 and not alone):
        listed = " + ".join(f"{share.part:g}" for share in (pool.share for pool in parts) if share)
        problem = f"the shares of the concepts ({listed}) leave nothing for the other pictures"
        if given > 1:
            problem = f"the shares of the concepts add up to more than 1: {listed}"
        raise UserError(problem, "share", "Give smaller ones; what they leave is divided by repeats among the rest.")
    if not alone:
        parts[Pool()] = 1 - given
    total = max((repeats[pool] / (part / sum(parts.values())) for pool, part in parts.items()), default=Fraction())
    return apportion(ceil(total), parts)


def apportion(total: int, weights: Mapping[Key, Fraction | int]) -> dict[Key, int]:
    """Divide a whole number by weights: each gets the whole part of its own, the largest fractions one more."""
    whole = sum(weights.values())
    exact = {key: Fraction(total * weight) / whole for key, weight in weights.items()}
    parts = {key: int(part) for key, part in exact.items()}
    most = sorted(exact, key=lambda key: parts[key] - exact[key])
    for key in most[: total - sum(parts.values())]:
        parts[key] += 1
    return parts


def portions(turns: Sequence[Turn]) -> list[float]:
    """The part of what is learned in an epoch that each picture gets; of one of regularisation, against that.

    Raises:
        UserError: as `epoch_views`.
    """
    views, repeats = Counter[Pool](), Counter[Pool]()
    for (pool, _), count in epoch_views(turns).items():
        views[pool] += count
    for turn in turns:
        repeats[turn.pool] += turn.repeats
    learned = sum(count for pool, count in views.items() if not pool.prior) or sum(views.values())
    return [views[turn.pool] / repeats[turn.pool] * turn.repeats / learned for turn in turns]


def histogram(turns: Sequence[Turn], batch_size: int, processes: int = 1) -> list[Row]:
    """Return every bucket with what an epoch makes of it, from the tallest to the widest.

    Args:
        turns: see `Turn`.
        batch_size: pictures that one process sees in a batch.
        processes: that train together; in a step all of them see the same bucket.

    Raises:
        UserError: as `epoch_views`.
    """
    views, pictures, size = Counter[Bucket](), Counter(turn.bucket for turn in turns), batch_size * processes
    for (_, bucket), count in epoch_views(turns).items():
        views[bucket] += count
    ordered = sorted(pictures, key=lambda bucket: (bucket.width / bucket.height, bucket))
    return [Row(bucket, pictures[bucket], views[bucket], -(-views[bucket] // size)) for bucket in ordered]


def batches_per_epoch(turns: Sequence[Turn], batch_size: int, processes: int = 1) -> int:
    """Forward passes of each process in an epoch."""
    return sum(row.batches for row in histogram(turns, batch_size, processes))


def steps_per_epoch(turns: Sequence[Turn], batch_size: int, accumulation: int = 1, processes: int = 1) -> float:
    """Optimiser steps of an epoch; steps are not aligned with epochs, so it may be a fraction."""
    return batches_per_epoch(turns, batch_size, processes) / accumulation
