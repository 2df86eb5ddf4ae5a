"""The order of pictures: every one each epoch as often as it repeats, whole batches, disjoint processes, no state."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import Order
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import Turn, batches_per_epoch, histogram, steps_per_epoch

SHAPES = st.sampled_from([Bucket(64, 64), Bucket(96, 32), Bucket(32, 96)])
TURNS = st.lists(SHAPES.map(Turn), min_size=1, max_size=40)
MIXED = st.lists(st.builds(Turn, SHAPES, st.integers(1, 5), st.booleans()), min_size=1, max_size=30)
SIZES, SEEDS = st.integers(1, 9), st.integers(0, 2**32 - 1)


def epoch_of(order: Order, epoch: int) -> list[tuple[int, ...]]:
    first = epoch * order.batches_per_epoch
    return [order.batch(first + index) for index in range(order.batches_per_epoch)]


@given(TURNS, SIZES, SEEDS, st.integers(0, 3))
def test_every_epoch_shows_every_picture_in_whole_batches_of_one_bucket(turns, batch_size, seed, epoch):
    batches = epoch_of(Order(turns, batch_size, seed), epoch)
    assert all(len(batch) == batch_size for batch in batches)
    assert all(len({turns[picture].bucket for picture in batch}) == 1 for batch in batches)
    seen = Counter(picture for batch in batches for picture in batch)
    assert set(seen) == set(range(len(turns)))
    for bucket in {turn.bucket for turn in turns}:
        counts = [seen[picture] for picture, own in enumerate(turns) if own.bucket == bucket]
        assert max(counts) - min(counts) <= 1, "a bucket is completed evenly"


@given(MIXED, SIZES, st.integers(1, 4), SEEDS, st.integers(0, 3))
def test_an_epoch_has_the_steps_that_were_announced_and_shows_what_repeats(turns, size, processes, seed, epoch):
    ranks = [epoch_of(Order(turns, size, seed, rank, processes), epoch) for rank in range(processes)]
    announced = batches_per_epoch(turns, size, processes)
    assert all(len(batches) == announced for batches in ranks)
    assert steps_per_epoch(turns, size, 2, processes) * 2 == announced
    seen = Counter(picture for batches in ranks for batch in batches for picture in batch)
    views = sum(row.views for row in histogram(turns, size, processes))
    assert sum(seen.values()) == announced * size * processes >= views
    assert all(seen[index] >= turn.repeats for index, turn in enumerate(turns) if not turn.prior)
    for step in range(announced):
        assert len({turns[picture].bucket for batches in ranks for picture in batches[step]}) == 1


@given(TURNS, SIZES, st.integers(1, 4), SEEDS, st.integers(1, 4))
def test_processes_are_disjoint_where_the_bucket_has_enough_pictures(turns, size, processes, seed, repeats):
    turns = [turn._replace(repeats=repeats) for turn in turns]
    there = Counter(turn.bucket for turn in turns)
    ranks = [epoch_of(Order(turns, size, seed, rank, processes), 1) for rank in range(processes)]
    for together in zip(*ranks, strict=True):
        pictures = [picture for batch in together for picture in batch]
        enough = there[turns[pictures[0]].bucket] >= size * processes
        assert len(set(pictures)) == len(pictures) or not enough


@given(MIXED, SIZES, SEEDS, st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_a_batch_depends_on_its_number_only(turns, batch_size, seed, asked):
    forwards, fresh = Order(turns, batch_size, seed), Order(turns, batch_size, seed)
    wanted = {number: forwards.batch(number) for number in range(max(asked) + 1)}
    assert all(fresh.batch(number) == wanted[number] for number in asked)


def test_epochs_differ():
    order = Order([Turn(Bucket(64, 64))] * 16, 4, seed=0)
    assert len({tuple(epoch_of(order, epoch)) for epoch in range(4)}) == 4


def test_a_picture_that_repeats_is_spread_over_the_epoch():
    turns = [Turn(Bucket(64, 64), 4), *[Turn(Bucket(64, 64))] * 12]
    assert all(batch.count(0) == 1 for batch in epoch_of(Order(turns, 4, seed=3), 0))


def test_regularisation_pictures_take_turns_where_there_are_more_of_them():
    turns = [*[Turn(Bucket(64, 64))] * 4, *[Turn(Bucket(64, 64), 1, True)] * 12]
    order = Order(turns, 4, seed=0)
    assert order.batches_per_epoch == 2, "as many as of the others"
    shown = [{picture for batch in epoch_of(order, epoch) for picture in batch if picture > 3} for epoch in range(3)]
    assert all(len(pictures) == 4 for pictures in shown) and len(set.union(*shown)) == 12
