"""How often each picture is seen in an epoch, and how many batches that makes."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from trainer.pictures.buckets import Bucket


class Turn(NamedTuple):
    """A picture at one resolution, as an epoch counts it.

    Attributes:
        bucket: its shape; a batch holds one shape.
        repeats: how often it is seen in an epoch.
        prior: it is one of regularisation.
    """

    bucket: Bucket
    repeats: int = 1
    prior: bool = False


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


def prior_views(turns: Sequence[Turn]) -> dict[Bucket, int]:
    """How many views of regularisation pictures an epoch has, bucket by bucket.

    There are at most as many as of the other pictures (DreamBooth, arXiv 2208.12242, pairs them one to one); a larger
    set takes turns, epoch after epoch. Each bucket gets its share, the remainder goes to the largest fractions.
    """
    there = Counter[Bucket]()
    for turn in turns:
        there[turn.bucket] += turn.repeats * turn.prior
    total, others = sum(there.values()), sum(turn.repeats for turn in turns if not turn.prior)
    if total <= others or not others:
        return dict(there)
    exact = {bucket: count * others / total for bucket, count in there.items()}
    views = {bucket: int(share) for bucket, share in exact.items()}
    most = sorted(exact, key=lambda bucket: (views[bucket] - exact[bucket], bucket))
    for bucket in most[: others - sum(views.values())]:
        views[bucket] += 1
    return views


def histogram(turns: Sequence[Turn], batch_size: int, processes: int = 1) -> list[Row]:
    """Return every bucket with what an epoch makes of it, from the tallest to the widest.

    Args:
        turns: see `Turn`.
        batch_size: pictures that one process sees in a batch.
        processes: that train together; in a step all of them see the same bucket.
    """
    priors, rows, size = prior_views(turns), [], batch_size * processes
    for bucket in sorted({turn.bucket for turn in turns}, key=lambda bucket: (bucket.width / bucket.height, bucket)):
        own = [turn for turn in turns if turn.bucket == bucket]
        views = sum(turn.repeats for turn in own if not turn.prior) + priors[bucket]
        rows.append(Row(bucket, len(own), views, -(-views // size)))
    return rows


def batches_per_epoch(turns: Sequence[Turn], batch_size: int, processes: int = 1) -> int:
    """Forward passes of each process in an epoch."""
    return sum(row.batches for row in histogram(turns, batch_size, processes))


def steps_per_epoch(turns: Sequence[Turn], batch_size: int, accumulation: int = 1, processes: int = 1) -> float:
    """Optimiser steps of an epoch; steps are not aligned with epochs, so it may be a fraction."""
    return batches_per_epoch(turns, batch_size, processes) / accumulation
