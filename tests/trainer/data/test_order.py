"""The order of pictures: each as often as repeats and shares say, whole batches, disjoint processes, no state."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.trainer.data.a_process import PICTURES, STEPS
from trainer.contract.errors import UserError
from trainer.data import draws
from trainer.data.order import Order, deal
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import (
    Pool,
    Share,
    Turn,
    batches_per_epoch,
    epoch_views,
    histogram,
    portions,
    steps_per_epoch,
)

SHAPES = st.sampled_from([Bucket(64, 64), Bucket(96, 32), Bucket(32, 96)])
TURNS = st.lists(SHAPES.map(Turn), min_size=1, max_size=40)
PART = st.integers(2, 48).map(lambda hundredth: hundredth / 100)


@st.composite
def mixed(draw: st.DrawFn) -> list[Turn]:
    """Pictures with and without shares, and of regularisation."""
    shares = [None, Share("a", draw(PART)), Share("b", draw(PART))]
    turn = st.builds(Turn, SHAPES, st.integers(1, 5), st.booleans(), st.sampled_from(shares))
    return draw(st.lists(turn, min_size=1, max_size=20))


MIXED = mixed()
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


@given(MIXED)
def test_shares_are_kept_to_the_view_and_nobody_is_seen_less_than_it_repeats(turns):
    views = Counter[Pool]()
    for (pool, bucket), count in epoch_views(turns).items():
        own = [turn.repeats for turn in turns if turn.pool == pool and turn.bucket == bucket]
        assert pool.prior or count >= sum(own)
        views[pool] += count
    learned = sum(count for pool, count in views.items() if not pool.prior)
    shares = {pool.share: count for pool, count in views.items() if pool.share}
    given = sum(share.part for share in shares)
    whole = 1 if Pool() in views else given  # where all have one, they count against each other
    assert all(abs(count - learned * share.part / whole) < 1 for share, count in shares.items())
    assert sum(portions([turn for turn in turns if not turn.prior])) == pytest.approx(float(bool(learned)))
    if not shares and learned:
        assert learned == sum(turn.repeats for turn in turns if not turn.prior)


@given(MIXED, SIZES, st.integers(1, 3), SEEDS)
def test_pictures_of_a_pool_take_turns_at_being_seen_once_more(turns, size, processes, seed):
    shown = Counter[int]()
    for epoch in range(12):
        chosen = Counter[int]()
        order = Order(turns, size, seed, 0, processes)
        for bucket in order.buckets:
            chosen.update(picture for members in order._rounds(epoch, bucket) for picture in members)
        assert chosen.total() == sum(epoch_views(turns).values())
        shown += chosen
    for pool, bucket in epoch_views(turns):
        own = [index for index, turn in enumerate(turns) if (turn.pool, turn.bucket) == (pool, bucket)]
        rates = [shown[index] / turns[index].repeats for index in own]
        assert max(rates) - min(rates) <= 1, "over many epochs too"


@given(MIXED, SIZES, st.integers(1, 3), SEEDS, st.integers(0, 2))
def test_no_step_shows_a_picture_twice_where_that_can_be(turns, size, processes, seed, epoch):
    order = Order(turns, size, seed, 0, processes)
    for bucket, _, _, batches in histogram(turns, size, processes):
        shown = Counter(picture for members in order._rounds(epoch, bucket) for picture in members)
        if len(shown) >= order.whole and max(shown.values()) <= batches:
            wholes = [batch for batch in order._plan_epoch(epoch) if turns[batch[0]].bucket == bucket]
            assert all(len(set(batch)) == order.whole for batch in wholes)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 4))
def test_views_are_dealt_without_doubles_where_that_can_be(views, size):
    batches = -(-len(views) // size)
    assume(len(set(views)) >= size and max(Counter(views).values()) <= batches)
    dealt = deal(views, size)
    assert len(dealt) == batches and all(len(set(batch)) == size for batch in dealt)
    assert not Counter(views) - Counter(picture for batch in dealt for picture in batch)


@pytest.mark.parametrize(
    ("parts", "alone", "words"),
    [
        ((0.6, 0.5), True, "more than 1: 0.6 [+] 0.5"),
        ((0.6, 0.5), False, "more than 1"),
        ((0.5, 0.5), False, "nothing"),
    ],
)
def test_shares_that_leave_nothing_are_refused(parts, alone, words):
    turns = [Turn(Bucket(64, 64), share=Share(str(place), part)) for place, part in enumerate(parts)]
    with pytest.raises(UserError, match=words):
        epoch_views(turns if alone else [*turns, Turn(Bucket(64, 64))])


def test_a_third_for_a_small_concept_beside_a_large_set():
    large, small = Turn(Bucket(64, 64)), Turn(Bucket(64, 64), share=Share("small", 1 / 3))
    turns = [*[large] * 20, *[small] * 4]
    order = Order(turns, 3, seed=1)
    assert order.batches_per_epoch == 10, "20 views of the set, 10 of the concept"
    for epoch in range(2):
        seen = Counter(picture for batch in epoch_of(order, epoch) for picture in batch)
        assert all(seen[picture] == 1 for picture in range(20))
        assert sorted(seen[picture] for picture in range(20, 24)) == [2, 2, 3, 3]
    assert all(len(set(batch)) == 3 for batch in epoch_of(order, 0))


def test_two_real_processes_see_one_bucket_and_other_pictures():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "tests.trainer.data.a_process"]
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **together, "RANK": rank, "LOCAL_RANK": rank}
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    (rank0, threads0, first, times0), (rank1, threads1, second, times1) = json.loads(said[0].splitlines()[-1])
    assert (rank0, rank1, threads0, threads1) == (0, 1, 1, 1), "threads stay as the run has them"
    alone = Order(PICTURES, 4, 7)
    for step in range(STEPS):
        pictures = [*first[step], *second[step]]
        assert tuple(pictures) == alone.batch(step) and len(set(pictures)) == 4
        assert len({PICTURES[picture].bucket for picture in pictures}) == 1
        assert times0[step] + times1[step] == draws.uniform(7, draws.TIMESTEP, step, 4).tolist()
