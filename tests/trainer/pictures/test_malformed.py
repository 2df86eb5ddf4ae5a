"""Files that are damaged in every way: a sentence for each, no crash, no good file lost."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.pictures.album import open_album
from trainer.pictures.importing import import_pictures
from trainer.pictures.storing import store

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
KINDS = {
    "PNG": {},
    "JPEG": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {},
}


def coded(kind):
    file = io.BytesIO()
    NOISE.save(file, kind, **KINDS[kind])
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, colours=2, data=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bombs():
    """Small files that would become large."""
    yield "huge-head.png", png(2**31 - 1, 2**31 - 1)
    yield "wide.png", png(2**31 - 1, 1)
    yield "flat.png", png(0, 0)
    yield "short-data.png", png(4000, 4000, data=b"\0" * 100)
    yield "odd-depth.png", png(8, 8, depth=3)
    yield (
        "text-bomb.png",
        (coded("PNG")[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2**26)) + coded("PNG")[33:]),
    )
    yield "huge.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;"
    yield "no-frames.gif", b"GIF89a" + struct.pack("<HH", 8, 8) + b"\0\0\0;"
    yield "huge.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "no-pixels.bmp", coded("BMP")[:54]
    yield "huge.webp", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + b"\xff" * 12
    yield "loop.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"  # a directory that is followed by itself
    yield "huge.tif", tiff((256, 2**31 - 1), (257, 2**31 - 1), (258, 8), (259, 1), (262, 1), (273, 8), (279, 8))
    yield "bare.tif", tiff((256, 8), (257, 8))
    yield "ghost.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\n"
    yield "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
    yield "layers.png", b"8BPS\0\1" + b"\0" * 40
    yield "zeros.png", b"\0" * 100_000
    yield "text.jpg", b"hello"
    yield "nothing.webp", b""


def tiff(*tags):
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + b"\0" * 64


def test_bad_files_are_named_and_good_ones_between_them_arrive(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    bad, good = [], []
    for name, data in bombs():
        (place / name).write_bytes(data)
        (good if name == "text-bomb.png" else bad).append(name)
    for kind in KINDS:
        data = coded(kind)
        for tenth in range(1, 10):
            name = f"{kind}-{tenth}.img.{kind.lower()}"
            (place / name).write_bytes(data[: len(data) * tenth // 10])
            bad.append(name)
        name = f"{kind}.whole.{'png' if kind == 'JPEG' else 'jpg'}"  # the wrong suffix, of all things
        (place / name).write_bytes(data)
        good.append(name)
    began = time.monotonic()
    report = import_pictures([place], tmp_path / "out")
    assert time.monotonic() - began < 60
    rejected = {Path(item.source).name: item.reason for item in report.rejected}
    arrived = set(report.accepted) | {Path(item.source).name for item in report.duplicates}
    assert set(good) <= arrived
    assert set(bad) == set(rejected)
    assert report.seen == len(bad) + len(good)
    assert all(reason.endswith(".") and len(reason) < 300 for reason in rejected.values())
    assert not [reason for reason in rejected.values() if "crashed" in reason]
    assert len(open_album(tmp_path / "out").entries) == len(report.accepted)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_any_bits_may_be_wrong(tmp_path, kind, flips):
    data = bytearray(coded(kind))
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    (tmp_path / "a.bin").write_bytes(data)
    place = [str(tmp_path / "a.bin"), None]
    answer = store({"place": place, "mask": None, "name": "a", "folder": str(tmp_path / "set"), "background": "#ffffff",
                    "copy": True})  # fmt: skip
    assert ("reason" in answer) != ("id" in answer)
    if "id" in answer:
        with Image.open(tmp_path / "set" / answer["file"]) as copy:
            assert (copy.mode in ("RGB", "L"), copy.size) == (True, answer["size"])
