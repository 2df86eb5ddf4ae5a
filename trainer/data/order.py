"""Which pictures make up micro-step m: buckets, epochs and whole batches, without any state."""

from collections.abc import Sequence
from functools import lru_cache

from trainer.data.draws import permutation
from trainer.pictures.buckets import Bucket


class Order:
    """The order of a run.

    Every epoch shows every picture. A batch holds one bucket; a bucket's last batch is completed from the front of that
    bucket's order of the same epoch, so that no picture is wasted and every batch is full.

    Args:
        buckets: the bucket of every picture.
        batch_size: pictures in a micro-step.
        seed: of the run.
    """

    def __init__(self, buckets: Sequence[Bucket], batch_size: int, seed: int) -> None:
        self.groups = {bucket: [i for i, own in enumerate(buckets) if own == bucket] for bucket in sorted(set(buckets))}
        self.batch_size, self.seed = batch_size, seed
        self.batches_per_epoch = sum(-(-len(group) // batch_size) for group in self.groups.values())
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, micro_step: int) -> tuple[int, ...]:
        """Return the pictures of micro-step `micro_step`, counted from 0."""
        epoch, index = divmod(micro_step, self.batches_per_epoch)
        return self._epoch(epoch)[index]

    def _plan_epoch(self, epoch: int) -> list[tuple[int, ...]]:
        batches = []
        for stream, group in enumerate(self.groups.values(), start=1):
            shuffled = [group[i] for i in permutation(self.seed, epoch, stream, len(group))]
            whole = -(-len(group) // self.batch_size) * self.batch_size
            filled = [shuffled[i % len(shuffled)] for i in range(whole)]
            batches += [tuple(filled[i : i + self.batch_size]) for i in range(0, whole, self.batch_size)]
        return [batches[i] for i in permutation(self.seed, epoch, 0, len(batches))]
