"""What is measured on a picture."""

import io
import itertools
import os
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from tests.trainer.pictures.drawn import discs
from trainer.contract.home import demo_folder
from trainer.pictures.hashes import find_alike, shrink
from trainer.pictures.looks import find_bars, look_at, sharpness


def stored_badly(image, quality=35):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


VARIANTS = {
    "smaller": lambda image: image.resize((97, 97)),
    "larger": lambda image: image.resize((700, 700)),
    "stored badly": stored_badly,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
    "cropped a little": lambda image: image.crop((2, 2, 254, 254)),
}


def alike(*images):
    return find_alike(np.stack(list(map(shrink, images))))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_picture_is_known_again(variant):
    for seed in range(8):
        image = discs(seed)
        assert alike(image, VARIANTS[variant](image)) == ([[0, 1]], set())
        assert alike(image, ImageOps.mirror(VARIANTS[variant](image))) == ([[0, 1]], {0, 1})


def test_different_pictures_are_no_pair():
    assert alike(*map(discs, range(60))) == ([], set())
    demo = sorted(demo_folder().glob("s*/*.png"))  # drawings of one style, and one figure in ten poses
    assert len(demo) == 30
    assert alike(*map(Image.open, demo)) == ([], set())


def test_plain_pictures_are_like_nothing():
    assert alike(*(Image.new("RGB", (64, 64), shade) for shade in ("white", "white", "black"))) == ([], set())


def test_likeness_is_found_beyond_one_block_of_rows_and_hangs_together():
    greys = np.random.default_rng(0).integers(0, 256, (1100, 32, 32), dtype=np.uint8)
    greys[1050] = greys[700] = greys[3]
    greys[600] = greys[550, :, ::-1]
    greys[20] = greys[21] = greys[1099, :, ::-1]
    assert find_alike(greys) == ([[3, 700, 1050], [20, 21, 1099], [550, 600]], {550, 600, 1099})


def test_a_chain_is_one_group():
    wide = discs(1, (300, 256))
    steps = [wide.crop((3 * n, 0, 256 + 3 * n, 256)) for n in range(14)]
    assert alike(*steps) == ([list(range(14))], set())
    assert alike(steps[0], steps[-1]) == ([], set())


def test_a_thousand_frames_of_one_film_do_not_take_for_ever():
    greys = np.repeat(shrink(discs(1))[None], 3000, axis=0)
    start = time.monotonic()
    assert find_alike(greys).groups == [list(range(3000))]
    assert time.monotonic() - start < 20


def test_blur_is_told_from_sharpness():
    def measure(image):
        return sharpness(np.asarray(image.convert("L"), np.float32))

    for seed in range(8):
        sharp = discs(seed, (512, 512))
        pale = ImageEnhance.Contrast(sharp).enhance(0.15)
        blurred = sharp.filter(ImageFilter.GaussianBlur(3))
        face = blurred.copy()
        face.paste(sharp.crop((128, 128, 384, 384)), (128, 128))
        assert min(measure(sharp), measure(pale), measure(face)) > 5
        assert max(measure(blurred), measure(pale.filter(ImageFilter.GaussianBlur(3)))) < 0.5
        assert measure(sharp.resize((96, 96)).resize((512, 512), Image.Resampling.BICUBIC)) < 2
    assert measure(Image.new("L", (512, 512), 99)) == 0
    assert measure(Image.new("L", (3, 900), 99)) == 0


def on_canvas(image, size, at, shade="black"):
    canvas = Image.new("RGB", size, shade)
    canvas.paste(image, at)
    return canvas


@pytest.mark.parametrize(
    ("size", "at", "wanted"),
    [
        ((480, 600), (0, 60), (0, 0.1, 0, 0.1)),
        ((600, 480), (90, 0), (0.15, 0, 0.05, 0)),
        ((600, 600), (60, 60), (0.1, 0.1, 0.1, 0.1)),
        ((480, 480), (0, 0), (0, 0, 0, 0)),
    ],
)
def test_bars_are_measured(size, at, wanted):
    for seed, shade in itertools.product(range(4), ("black", "white")):
        framed = on_canvas(discs(seed, (480, 480)), size, at, shade)
        for image in (framed, framed.reduce(2), stored_badly(framed, 80).reduce(2)):
            assert find_bars(np.asarray(image, np.int16)) == pytest.approx(wanted, abs=0.008)


def test_an_empty_background_is_no_bar():
    image = Image.new("RGB", (256, 256), "white")
    for radius in (5, 15, 30, 60, 100, 125):
        ImageDraw.Draw(image).ellipse((128 - radius, 128 - radius, 127 + radius, 127 + radius), fill="red")
        assert not any(find_bars(np.asarray(image, np.int16)))
    assert not any(find_bars(np.asarray(Image.new("RGB", (256, 256), "white"), np.int16)))
    for path in demo_folder().glob("s*/*.png"):
        assert not any(find_bars(np.asarray(Image.open(path).convert("RGB"), np.int16))), path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photo_is_measured_like_its_small_copy(tmp_path, orientation):
    photo = discs(1, (1800, 1300))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "large.jpg", quality=95, exif=exif)
    ImageOps.exif_transpose(Image.open(tmp_path / "large.jpg")).resize(
        (450, 325) if orientation < 5 else (325, 450), Image.Resampling.LANCZOS
    ).save(tmp_path / "small.png")
    looks, faults = look_at({name: tmp_path / name for name in ("large.jpg", "small.png")}, 256)
    assert not faults
    large, small = looks["large.jpg"], looks["small.png"]
    assert large.size == ((1800, 1300) if orientation < 5 else (1300, 1800))
    assert find_alike(np.stack([large.thumb(), small.thumb()])) == ([[0, 1]], set())
    assert np.abs(large.thumb().astype(int) - small.thumb()).max() <= 8


def test_what_cannot_be_read_is_said_and_the_rest_is_measured(tmp_path):
    discs(0).save(tmp_path / "good.png")
    discs(0, (1400, 1400)).save(tmp_path / "cut.jpg", quality=95)
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    seen = []
    names = ("good.png", "cut.jpg", "text.png", "gone.png")
    looks, faults = look_at({n: tmp_path / n for n in names}, 256, lambda *at: seen.append(at))
    assert set(looks) == {"good.png"}
    assert "cut off" in faults["cut.jpg"] and "not a picture" in faults["text.png"] and "read" in faults["gone.png"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_picture_is_measured_again_only_when_it_has_changed(tmp_path):
    path = tmp_path / "a.png"
    discs(0).save(path)
    first = look_at({"a": path}, 256)[0]["a"]
    assert look_at({"a": path}, 256)[0]["a"] is first
    discs(1).save(path)
    os.utime(path, ns=(0, 5))
    assert look_at({"a": path}, 256)[0]["a"].digest != first.digest
