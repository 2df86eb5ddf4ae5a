"""Which pictures make up micro-step m: buckets, epochs and whole batches, without any state."""

from collections import Counter, deque
from collections.abc import Sequence
from functools import lru_cache

from trainer.data.draws import permutation
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import Pool, Turn, batches_per_epoch, epoch_views


class Order:
    """The order of a run: a pure function of the seed and the micro-step.

    Every epoch shows every picture as often as `trainer.pictures.epochs` says. In a micro-step all processes see the
    same bucket, each its own slice of one large batch, in which no picture stands twice where that can be: where the
    bucket has enough others, and none of them more views than it has batches. A bucket's last batch is completed with
    the first pictures of the same epoch's order that are not in it, so that none is wasted and every batch is full.

    Args:
        turns: of every picture.
        batch_size: pictures in a micro-step of one process.
        seed: of the run.
        rank: number of this process.
        processes: that train together.
    """

    def __init__(self, turns: Sequence[Turn], batch_size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.turns, self.batch_size, self.seed, self.rank, self.processes = turns, batch_size, seed, rank, processes
        self.whole, self.first = batch_size * processes, batch_size * rank
        self.buckets = sorted({turn.bucket for turn in turns})
        self.batches_per_epoch = batches_per_epoch(turns, batch_size, processes)
        self._views = epoch_views(turns)
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, micro_step: int) -> tuple[int, ...]:
        """Return this process's pictures of micro-step `micro_step`, counted from 0."""
        epoch, index = divmod(micro_step, self.batches_per_epoch)
        return self._epoch(epoch)[index][self.first : self.first + self.batch_size]

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
        """A bucket's pictures, once in as many rounds as they are seen; those that are seen less are spread over them.

        The views of a pool are its pictures, each as often as it repeats, gone through in laps: the last is cut short
        where the pool has no whole number of them, and the next epoch goes on from there.
        """
        own = [index for index, turn in enumerate(self.turns) if turn.bucket == bucket]
        pools: dict[Pool, list[tuple[int, float]]] = {}
        for place, index in enumerate(own):
            copies = range(self.turns[index].repeats)
            pools.setdefault(self.turns[index].pool, []).extend((index, copy + place / len(own)) for copy in copies)
        laps = {pool: -(-self._views[pool, bucket] // len(views)) for pool, views in pools.items()}
        most = max(max(1, laps[self.turns[index].pool]) * self.turns[index].repeats for index in own)
        rounds: list[list[int]] = [[] for _ in range(most)]
        for pool, views in pools.items():
            count = self._views[pool, bucket]
            for number in range(count):
                index, at = views[(epoch * count + number) % len(views)]
                repeats, lap = self.turns[index].repeats, number // len(views)
                rounds[int((lap * repeats + at) * most / (repeats * laps[pool]))].append(index)
        return rounds


def deal(views: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Cut views into batches of `size`, as few as can be, completed as `Order` says.

    A view that stands in its batch already waits for the next one. One that has to stand in every batch from now on
    goes before others, so that no batch has it twice; what is left over at the end takes any free place.
    """
    waiting, batches, left = deque(views), list[list[int]](), Counter(views)
    often, rare = list[int](), deque(left.most_common())
    for to_come in range(-(-len(views) // size), 0, -1):
        batch, held = list[int](), list[int]()
        while rare and rare[0][1] >= to_come:
            often.append(rare.popleft()[0])
        urgent = {view for view in often if left[view] >= to_come}
        while waiting and len(batch) < size:
            view = waiting.popleft()
            free = view in urgent or len(batch) + len(urgent) < size
            (batch if free and view not in batch else held).append(view)
            urgent.discard(view)
        waiting.extendleft(reversed(held))
        left.subtract(batch)
        batches.append(batch)
    for batch in batches:
        batch += [waiting.popleft() for _ in range(min(len(waiting), size - len(batch)))]
        while len(batch) < size:
            others = [view for view in dict.fromkeys(views) if view not in batch]
            batch += (others or list(dict.fromkeys(views)))[: size - len(batch)]
    return [tuple(batch) for batch in batches]
