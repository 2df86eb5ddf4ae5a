"""Invariants of the shapes that pictures are brought to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.contract.errors import UserError
from trainer.pictures.buckets import Bucket, crop_box, fit, make_buckets, nearest

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


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), AT)
def test_any_picture_fits(size, at):
    bucket = Bucket(24, 16)
    assert fit(Image.new("RGB", size), bucket, at).size == (24, 16)


def test_the_centre_is_kept_and_the_overhang_cut():
    image = Image.new("RGB", (40, 10), "blue")
    image.paste((255, 0, 0), (15, 0, 25, 10))  # a red square in the middle
    assert crop_box(image.size, Bucket(8, 8)) == (15, 0, 25, 10)
    whole = image.resize((32, 8), Image.Resampling.LANCZOS)
    assert fit(image, Bucket(8, 8)).tobytes() == whole.crop((12, 0, 20, 8)).tobytes()
    assert fit(image, Bucket(8, 8), at=(0, 0)).getpixel((0, 0)) == (0, 0, 255)


def test_impossible_grids_are_refused():
    for grid in ((32, 64), (0, 8), (64, 0)):
        with pytest.raises(UserError, match="no shape"):
            make_buckets(*grid)
    with pytest.raises(UserError, match="below 1"):
        make_buckets(512, 64, 0.5)
