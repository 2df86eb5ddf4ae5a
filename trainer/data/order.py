"""Which pictures make up micro-step m: buckets, epochs and whole batches, without any state."""

from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from trainer.data.draws import permutation
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import Turn, batches_per_epoch, prior_views


class Order:
    """The order of a run: a pure function of the seed and the micro-step.

    Every epoch shows every picture as often as it repeats; regularisation pictures take turns where there are more of
    them than of the others (see `prior_views`). In a micro-step all processes see the same bucket, each its own slice
    of one large batch, in which no picture stands twice as long as the bucket has enough others. A bucket's last batch
    is completed with the first pictures of the same epoch's order that are not in it, so that none is wasted and every
    batch is full.

    Args:
        turns: bucket and repeats of every picture.
        batch_size: pictures in a micro-step of one process.
        seed: of the run.
        rank: number of this process.
        processes: that train together.
    """

    def __init__(self, turns: Sequence[Turn], batch_size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.turns, self.batch_size, self.seed, self.rank = turns, batch_size, seed, rank
        self.whole = batch_size * processes
        self.buckets = sorted({turn.bucket for turn in turns})
        self.batches_per_epoch = batches_per_epoch(turns, batch_size, processes)
        self._priors = prior_views(turns)
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, micro_step: int) -> tuple[int, ...]:
        """Return this process's pictures of micro-step `micro_step`, counted from 0."""
        epoch, index = divmod(micro_step, self.batches_per_epoch)
        first = self.rank * self.batch_size
        return self._epoch(epoch)[index][first : first + self.batch_size]

    def _plan_epoch(self, epoch: int) -> list[tuple[int, ...]]:
        batches: list[tuple[int, ...]] = []
        for stream, bucket in enumerate(self.buckets, start=1):
            views: list[int] = []
            for number, members in enumerate(self._rounds(epoch, bucket)):
                place = (epoch, stream, number)[: 3 if number else 2]
                views += [members[i] for i in permutation(self.seed, len(members), *place)]
            batches += deal(views, self.whole)
        return [batches[i] for i in permutation(self.seed, len(batches), epoch, 0)]

    def _rounds(self, epoch: int, bucket: Bucket) -> list[list[int]]:
        """A bucket's pictures, once in as many rounds as they repeat; those that repeat less are spread over them."""
        own = [index for index, turn in enumerate(self.turns) if turn.bucket == bucket]
        views = [
            (index, copy + place / len(own))
            for place, index in enumerate(own)
            for copy in range(self.turns[index].repeats)
        ]
        priors, count = [view for view in views if self.turns[view[0]].prior], self._priors[bucket]
        chosen = [view for view in views if not self.turns[view[0]].prior]
        chosen += [priors[(epoch * count + i) % len(priors)] for i in range(count)]
        most = max(self.turns[index].repeats for index in own)
        rounds: list[list[int]] = [[] for _ in range(most)]
        for index, at in chosen:
            rounds[int(at * most / self.turns[index].repeats)].append(index)
        return rounds


def deal(views: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Cut views into batches of `size`, as few as can be, completed as `Order` says.

    A view that stands in its batch already waits for the next one; what is left over at the end takes any free place.
    """
    waiting, batches = deque(views), list[list[int]]()
    for _ in range(-(-len(views) // size)):
        batch, held = list[int](), list[int]()
        while waiting and len(batch) < size:
            view = waiting.popleft()
            (held if view in batch else batch).append(view)
        waiting.extendleft(reversed(held))
        batches.append(batch)
    for batch in batches:
        batch += [waiting.popleft() for _ in range(min(len(waiting), size - len(batch)))]
        while len(batch) < size:
            others = [view for view in dict.fromkeys(views) if view not in batch]
            batch += (others or list(dict.fromkeys(views)))[: size - len(batch)]
    return [tuple(batch) for batch in batches]
