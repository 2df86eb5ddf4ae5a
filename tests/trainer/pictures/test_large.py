"""Very large pictures are used at a part of their size, which is the same wherever it is asked for."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.trainer.pictures.samples import encoded
from trainer.contract.errors import UserError
from trainer.pictures import decode as decoding
from trainer.pictures import large
from trainer.pictures.decode import decode
from trainer.pictures.large import LARGE, LEAST_SIDE, divisor, reduced
from trainer.pictures.looks import look_at
from trainer.pictures.measure import upright_size
from trainer.pictures.storing import store

SIDES = st.integers(1, 70_000)
KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")


@pytest.fixture
def small(monkeypatch):
    """What is very large here: 40 by 30 pixels and more."""
    monkeypatch.setattr(large, "LARGE", 1000)
    monkeypatch.setattr(large, "LEAST_SIDE", 8)


@given(size=st.tuples(SIDES, SIDES))
def test_only_what_is_very_large_is_reduced_and_never_below_what_training_needs(size):
    by, (width, height) = divisor(size), reduced(size)
    assert by in (1, 2, 4, 8)
    assert by == 1 or (size[0] * size[1] > LARGE and min(width, height) >= LEAST_SIDE)
    assert by == 8 or width * height <= LARGE * 1.01 or min(size) < 2 * by * LEAST_SIDE
    assert (width, height) == (-(-size[0] // by), -(-size[1] // by))
    assert reduced(reduced(size)) == (width, height) or by == 8  # a copy is not reduced again


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_reader_sees_the_same_size(tmp_path, small, kind, orientation):
    steps = np.linspace(0, 255, 61).astype(np.uint8)
    picture = Image.fromarray(np.stack(np.broadcast_arrays(steps[None], steps[:47, None], 90), -1).astype(np.uint8))
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    file = io.BytesIO()
    picture.save(file, kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
    turned = orientation == 6 and kind not in ("BMP", "GIF")
    found, size = decode(file.getvalue(), ""), ((24, 31) if turned else (31, 24))
    assert (found.picture.size, found.divisor) == (size, 2)
    assert upright_size(file.getvalue(), "") == size
    upright = found.picture.rotate(90, expand=True) if turned else found.picture
    wanted = picture.reduce(2)
    assert np.abs(np.asarray(upright, dtype=int) - np.asarray(wanted, dtype=int)).mean() < 6
    (tmp_path / "a.bin").write_bytes(file.getvalue())
    looks, _ = look_at({"a": tmp_path / "a.bin"}, 8)
    assert looks["a"].size == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_reduced_is_said_and_stays_so(tmp_path, small, kind, kept):
    (tmp_path / "a.x").write_bytes(encoded("red", kind, size=(64, 48)))
    answer = store({"place": [str(tmp_path / "a.x"), None], "mask": None, "name": "a", "folder": str(tmp_path),
                    "background": "#ffffff", "copy": kept})  # fmt: skip
    assert answer["notes"] == ["It is very large, so it is used at 1/2 of its size."]
    data = (tmp_path / answer.get("file", "a.x")).read_bytes()
    assert answer["size"] == decode(data, "").picture.size == upright_size(data, "") == (32, 24)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_are_reduced_to_their_mean(small, mode):
    half = Image.new("RGBA", (64, 48), (255, 255, 255, 255))
    half.paste((0, 0, 0, 255), (0, 0, 31, 48))  # the border falls between two pixels that become one
    image = Image.fromarray(np.where(np.asarray(half)[..., 0] > 0, 65535, 0).astype(np.uint16)) if mode == "I;16" else (
        half.convert("RGB").convert(mode) if mode in ("P", "CMYK") else half.convert(mode))  # fmt: skip
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "PNG")
    row = np.asarray(decode(file.getvalue(), "").picture)[0, :, 0].astype(int)
    assert (row[:15] == 0).all() and abs(row[15] - 127) <= 1 and (row[16:] == 255).all()


def test_a_clear_colour_does_not_bleed_into_what_is_seen(small):
    image = Image.new("RGBA", (64, 48), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 31, 48))
    file = io.BytesIO()
    image.save(file, "PNG")
    found = decode(file.getvalue(), "", (0, 0, 255))
    assert found.picture.getextrema() == ((0, 0), (0, 0), (255, 255))
    assert found.alpha is not None and found.alpha.getpixel((15, 0)) in (127, 128)


def test_a_photo_beyond_the_limit_is_read_where_its_format_can_leave_most_of_it_out(monkeypatch, small):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2000)
    photo, drawing = encoded("red", "JPEG", size=(64, 48)), encoded("red", "PNG", size=(64, 48))
    assert decode(photo, "").picture.size == upright_size(photo, "") == (32, 24)
    with pytest.raises(UserError, match="larger than"):
        decode(drawing, "")
    monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", 3000)
    with pytest.raises(UserError, match="larger than"):
        decode(photo, "")
