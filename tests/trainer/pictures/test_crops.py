"""What the model sees of a picture: one bucket for each resolution, a crop inside the picture, no needless loss."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.pictures.album import Entry, identity
from trainer.pictures.buckets import Bucket, make_buckets, nearest
from trainer.pictures.crops import CropOptions, Shown, choose_bucket, enlargement, plan

SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
FOCUS = st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1))
CROPS = st.sampled_from(("focus", "centre", "random"))


def entry(number=0, **more) -> Entry:
    return Entry(id=identity(str(number)), file=f"{number}.png", name=f"{number}.png", **more)


@st.composite
def grids(draw):
    step = draw(st.sampled_from((8, 32, 64)))
    return CropOptions(
        tuple(draw(st.lists(st.integers(step, 1100), min_size=1, max_size=3, unique=True))),
        step,
        draw(CROPS),
        draw(st.floats(1, 4)),
    )


@given(st.lists(st.tuples(SIZES, FOCUS, st.booleans()), max_size=12), grids())
def test_every_picture_is_in_exactly_one_bucket_of_each_resolution(pictures, options):
    entries = [(entry(i, focus=at, excluded=out), size) for i, (size, at, out) in enumerate(pictures)]
    shown = plan(entries, options)
    wanted = [(resolution, e.id) for resolution in options.resolutions for e, _ in entries if not e.excluded]
    assert [(item.resolution, item.entry.id) for item in shown] == wanted


@given(SIZES, FOCUS, grids())
def test_crops_are_inside_the_picture_and_have_the_buckets_shape(size, focus, options):
    for item in plan([(entry(focus=focus), size)], options):
        bucket = item.bucket
        assert bucket.width % options.step == bucket.height % options.step == 0
        for number, (left, top, right, bottom) in enumerate(item.boxes):
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
            assert (right - left) / (bottom - top) == pytest.approx(bucket.width / bucket.height)
            assert right - left == pytest.approx(size[0]) or bottom - top == pytest.approx(size[1])
            x0, y0, x1, y1 = item.rectangle(number)
            assert (x1 - x0, y1 - y0) == (bucket.width, bucket.height)
            assert x0 >= 0 and y0 >= 0 and x1 <= item.resized[0] and y1 <= item.resized[1]


@given(SIZES, grids())
def test_a_smaller_bucket_is_taken_only_where_the_picture_is_too_small_and_no_smaller_than_needed(size, options):
    for item in plan([(entry(), size)], options):
        smaller = range(item.resolution, 0, -1)
        areas = [item.resolution] + [r for r in smaller if r % options.step == 0 and r < item.resolution]
        nearest_ones = [nearest(size, make_buckets(area, options.step)) for area in areas]
        fitting = [bucket for bucket in nearest_ones if enlargement(size, bucket) <= options.max_upscale]
        assert item.bucket == (fitting or nearest_ones[-1:])[0]
        assert item.scale == enlargement(size, item.bucket)


@given(st.floats(-math.log(2), math.log(2)), st.integers(400, 3000))
def test_the_aspect_error_is_bounded_by_the_grid(log_aspect, side):
    size = max(1, round(side * math.exp(log_aspect / 2))), max(1, round(side * math.exp(-log_aspect / 2)))
    (item,) = plan([(entry(), size)], CropOptions((512,), 64, max_upscale=100))
    logs = sorted(math.log(b.width / b.height) for b in make_buckets(512, 64))
    gap = max(after - before for before, after in pairwise(logs)) / 2
    beyond = max(0.0, abs(math.log(size[0] / size[1])) - logs[-1])
    off = abs(math.log(item.bucket.width / item.bucket.height) - math.log(size[0] / size[1]))
    assert off <= max(gap, beyond) + 1e-6


@given(SIZES, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_no_crop_has_its_middle_nearer_to_the_focus_point(size, focus):
    (item,) = plan([(entry(focus=focus), size)], CropOptions((512,), 64))
    (around,) = item.boxes
    others = plan([(entry(focus=focus), size)], CropOptions((512,), 64, "random"))[0].boxes

    def off(box):
        return math.hypot((box[0] + box[2]) / 2 - focus[0] * size[0], (box[1] + box[3]) / 2 - focus[1] * size[1])

    assert off(around) <= min(map(off, others)) + 1e-6


def test_a_large_picture_gets_the_full_area_and_a_small_one_a_smaller_bucket():
    options = CropOptions((512,), 64)

    def bucket(*size):
        return choose_bucket(size, 512, options)

    assert bucket(3000, 2000) == Bucket(640, 384)
    assert bucket(256, 256) == Bucket(512, 512), "twice as large is the limit"
    assert bucket(255, 255) == Bucket(448, 448)
    assert bucket(10, 10) == Bucket(64, 64), "nothing is left out"
    assert choose_bucket((10, 10), 512, CropOptions((512,), 64, max_upscale=100)) == Bucket(512, 512)


def test_random_crops_reach_from_edge_to_edge():
    (item,) = plan([(entry(), (1000, 500))], CropOptions((512,), 512, "random"))
    assert [box[0] for box in item.boxes] == pytest.approx([0, 500 / 3, 1000 / 3, 500])
    (whole,) = plan([(entry(), (512, 512))], CropOptions((512,), 64, "random"))
    assert isinstance(whole, Shown) and len(whole.boxes) == 1, "there is one crop only where nothing is cut off"
