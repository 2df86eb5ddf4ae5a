"""The order of pictures: every one each epoch, whole batches, no state."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import Order
from trainer.pictures.buckets import Bucket

BUCKETS = st.lists(st.sampled_from([Bucket(64, 64), Bucket(96, 32), Bucket(32, 96)]), min_size=1, max_size=40)


@given(BUCKETS, st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_every_epoch_shows_every_picture_in_whole_batches_of_one_bucket(buckets, batch_size, seed, epoch):
    order = Order(buckets, batch_size, seed)
    first = epoch * order.batches_per_epoch
    batches = [order.batch(first + index) for index in range(order.batches_per_epoch)]
    assert all(len(batch) == batch_size for batch in batches)
    assert all(len({buckets[picture] for picture in batch}) == 1 for batch in batches)
    seen = Counter(picture for batch in batches for picture in batch)
    assert set(seen) == set(range(len(buckets)))
    for bucket in set(buckets):
        counts = [seen[picture] for picture, own in enumerate(buckets) if own == bucket]
        assert max(counts) - min(counts) <= 1, "a bucket is completed evenly"


@given(BUCKETS, st.integers(1, 9), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_a_batch_depends_on_its_number_only(buckets, batch_size, seed, asked):
    forwards, fresh = Order(buckets, batch_size, seed), Order(buckets, batch_size, seed)
    wanted = {number: forwards.batch(number) for number in range(max(asked) + 1)}
    assert all(fresh.batch(number) == wanted[number] for number in asked)


def test_epochs_differ():
    order = Order([Bucket(64, 64)] * 16, 4, seed=0)
    epochs = [tuple(order.batch(epoch * 4 + index) for index in range(4)) for epoch in range(4)]
    assert len(set(epochs)) == 4
