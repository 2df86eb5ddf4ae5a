"""Invariants of the shapes that pictures are brought to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import UserError
from trainer.pictures.buckets import Bucket, crop_box, make_buckets, nearest

STEPS = st.sampled_from((8, 16, 32, 64))
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
AT = st.tuples(st.floats(0, 1), st.floats(0, 1))


@st.composite
def grids(draw):
    step = draw(STEPS)
    resolution = draw(st.integers(step, 1100))
    return resolution, step, draw(st.floats(1, 4))


def test_the_shapes_for_512_in_steps_of_64():
    assert [(bucket.width, bucket.height) for bucket in make_buckets(512, 64)] == [
        (384, 640),
        (448, 576),
        (512, 512),
        (576, 448),
        (640, 384),
    ]


@given(grids())
def test_shapes_keep_to_area_step_and_aspect(grid):
    resolution, step, max_aspect = grid
    buckets = make_buckets(*grid)
    square = resolution // step * step
    assert Bucket(square, square) in buckets
    assert len(set(buckets)) == len(buckets)
    for bucket in buckets:
        assert bucket.width % step == bucket.height % step == 0
        assert bucket.width * bucket.height <= resolution**2
        assert max(bucket.width / bucket.height, bucket.height / bucket.width) <= max_aspect
        assert Bucket(bucket.height, bucket.width) in buckets
        if bucket.width > bucket.height:  # no room is wasted
            assert bucket.width * (bucket.height + step) > resolution**2


@given(SIZES, grids())
def test_nearest_is_nearest(size, grid):
    buckets = make_buckets(*grid)
    chosen = nearest(size, buckets)

    def off(bucket):
        return abs(math.log(bucket.width * size[1] / (bucket.height * size[0])))

    assert off(chosen) <= min(map(off, buckets)) + 1e-8
    assert nearest((size[1], size[0]), buckets) == Bucket(chosen.height, chosen.width) or any(
        abs(off(bucket) - off(chosen)) < 1e-8 for bucket in buckets if bucket != chosen
    )


@given(SIZES, grids(), AT)
def test_the_crop_is_the_largest_part_of_the_right_shape(size, grid, at):
    bucket = nearest(size, make_buckets(*grid))
    left, top, right, bottom = crop_box(size, bucket, at)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert (right - left) / (bottom - top) == pytest.approx(bucket.width / bucket.height)
    assert right - left == pytest.approx(size[0]) or bottom - top == pytest.approx(size[1])


def test_impossible_grids_are_refused():
    for grid in ((32, 64), (0, 8), (64, 0)):
        with pytest.raises(UserError, match="no shape"):
            make_buckets(*grid)
    with pytest.raises(UserError, match="below 1"):
        make_buckets(512, 64, 0.5)
