"""JPEG files lose their metadata and nothing else."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.pictures.jpeg import strip_jpeg


def coded(mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 4), dtype=np.uint8)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[270] = "SECRET"
    Image.fromarray(pixels, "RGBA").convert(mode).save(
        file, "JPEG", exif=exif, comment=b"SECRET", icc_profile=b"SECRET" * 20_000, **options
    )
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"keep_rgb": True}], ids=str
)
def test_pixels_stay_and_words_go(mode, options):
    data = coded(mode, **options)
    stripped = strip_jpeg(data + b"\xff\xd8 a second picture SECRET")
    assert b"SECRET" in data and b"SECRET" not in stripped
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stripped)) as after:
        assert before.tobytes() == after.tobytes()
        assert set(after.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe",
                                   "adobe_transform", "progressive", "progression"}  # fmt: skip


def test_a_thumbnail_in_the_first_segment_goes():
    data = coded()
    thumbnail = b"JFIF\0\1\1\0\0\1\0\1\2\2" + b"\x11" * 12
    with_it = data[:2] + b"\xff\xe0" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[20:]
    assert strip_jpeg(with_it) == strip_jpeg(data[:2] + b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + data[20:])


@given(st.integers(0, 3000), st.integers(0, 255), st.integers(0, 3000))
def test_damage_gives_a_file_or_none(place, value, cut):
    data = bytearray(coded())
    data[place % len(data)] = value
    whole = strip_jpeg(bytes(data))
    assert whole is None or whole.startswith(b"\xff\xd8")
    assert strip_jpeg(bytes(data[: cut % len(data)])) is None or cut
    assert strip_jpeg(b"") is None
