"""What is measured on a picture before it is trained on: size, sharpness, bars, and what tells it from others."""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from trainer.contract.errors import UserError
from trainer.pictures.decode import BAD_HEADER, ORIENTATION, decode_picture, open_header, read_bytes
from trainer.pictures.hashes import SIDE, shrink
from trainer.pictures.large import reduced

TILES = 8  # of a side: a picture is as sharp as its sharpest parts
SHARPEST = 4  # tiles
ROUNDING = 2.0  # variance of the Laplacian that the rounding to whole levels makes by itself: 20 / 12, and a little
BAR_SIDE = 256  # pixels in which bars are looked for
BAR_TOLERANCE = 12  # levels of 255; JPEG leaves as much in a black bar
BAR_EDGE = 0.04  # of the lines: in so many a bar passes into the picture, smeared by JPEG
STRAIGHT = 0.7  # of such a line's pixels
LEAST_BAR, MOST_BARS = 0.02, 0.6  # of a side; what is left between more is a small thing on an empty background


@dataclass(frozen=True)
class Look:
    """What was measured on a picture.

    Attributes:
        size: upright (width, height) in pixels.
        digest: SHA-256 of the file's bytes.
        grey: `hashes.shrink`'s 32 by 32 levels.
        sharpness: see `sharpness`.
        bars: uniform bars at the left, top, right and bottom, as shares of the picture's side.
    """

    size: tuple[int, int]
    digest: bytes
    grey: bytes
    sharpness: float
    bars: tuple[float, float, float, float]

    def thumb(self) -> npt.NDArray[np.uint8]:
        """`grey` as an array [32, 32]."""
        return np.frombuffer(self.grey, np.uint8).reshape(SIDE, SIDE)


def look_at(
    paths: Mapping[str, Path], side: int, on_progress: Callable[[int, int], None] | None = None
) -> tuple[dict[str, Look], dict[str, str]]:
    """Measure pictures, several at a time; one that was measured before and has not changed is not opened again.

    Args:
        paths: of the pictures, by any name.
        side: pixels that the short side has in training.
        on_progress: called with (pictures done, pictures in all).

    Returns:
        What was measured, and why others cannot be read, both by the names in `paths`.
    """
    looks: dict[str, Look] = {}
    faults: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # Pillow lets go of the GIL
        found = pool.map(lambda path: _look(path, side), paths.values())
        for done, (name, result) in enumerate(zip(paths, found, strict=True), 1):
            if isinstance(result, Look):
                looks[name] = result
            else:
                faults[name] = result
            if on_progress:
                on_progress(done, len(paths))
    return looks, faults


def sharpness(grey: npt.NDArray[np.float32]) -> float:
    """How sharp the sharpest parts of a picture are; 0.5 and less is blurred, 15 and more is sharp.

    It is the variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy"),
    with two changes: of the sharpest tiles, so that a face before a soft background counts as sharp, and as a
    percentage of the picture's own variance, so that fog and flat drawings do. Found on drawings and noise of 512
    pixels: 15 to 1000 as they are, 0.1 to 1 with a Gaussian blur of 2 pixels, 0.0 to 0.2 with one of 3.

    Args:
        grey: levels of 255, [height, width].
    """
    if min(grey.shape) < TILES + 2:
        return 0.0
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    high, wide = (length // TILES for length in laplacian.shape)
    tiles = laplacian[: high * TILES, : wide * TILES].reshape(TILES, high, TILES, wide)
    energy = np.sort(np.square(tiles).mean(axis=(1, 3)).ravel())[-SHARPEST:].mean()
    return float(100 * max(0.0, energy - ROUNDING) / max(1.0, grey.var()))


def find_bars(pixels: npt.NDArray[np.int16]) -> tuple[float, float, float, float]:
    """Find bars of one colour at the sides of a picture, as shares of its width (left, right) and height (top, bottom).

    A bar has another one opposite, and ends in a straight line: what comes next differs from it along most of its
    length. So the empty background around a thing is none.

    Args:
        pixels: [height, width, 3].
    """
    sides = [
        pixels.transpose(1, 0, 2),
        pixels,
        pixels.transpose(1, 0, 2)[::-1],
        pixels[::-1],
    ]  # left, top, right, bottom
    runs = [_run(lines) for lines in sides]
    bars = []
    for number, lines in enumerate(sides):
        before, behind = runs[(number + 1) % 2], runs[(number + 1) % 2 + 2]  # bars across its ends
        edge = math.ceil(BAR_EDGE * len(lines))
        inner = lines[runs[number] : runs[number] + edge, before : lines.shape[1] - behind]
        straight = _apart(inner, lines[0]).sum(axis=1) >= STRAIGHT * max(1, inner.shape[1])
        share = (runs[number] + int(np.argmax(straight))) / len(lines) if straight.any() else 0.0
        bars.append(share if share >= LEAST_BAR else 0.0)
    left, top, right, bottom = (
        bar if other and bar + other <= MOST_BARS else 0.0 for bar, other in zip(bars, bars[2:] + bars[:2], strict=True)
    )
    return left, top, right, bottom


def _run(lines: npt.NDArray[np.int16]) -> int:
    """How many lines from the first on have its colour all along."""
    for top in range(0, len(lines), 16):  # most pictures have no bar, which the first few lines say
        mixed = _apart(lines[top : top + 16], lines[0]).mean(axis=1) > 0.01  # a speck is no end
        if mixed.any():
            return top + int(np.argmax(mixed))
    return len(lines)


def _apart(pixels: npt.NDArray[np.int16], edge: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Which pixels differ from the colour of an edge line."""
    far = np.abs(pixels - np.median(edge, axis=0).astype(np.int16)) > BAR_TOLERANCE
    return np.asarray(far[..., 0] | far[..., 1] | far[..., 2])


def _look(path: Path, side: int) -> Look | str:
    try:
        stamp = path.stat()
    except OSError as error:
        return f"The file could not be read ({error.strerror or error})."
    return _measure(path, stamp.st_mtime_ns, stamp.st_size, side)


@functools.lru_cache(maxsize=20_000)  # 2 KB each; the page asks again after every fix
def _measure(path: Path, _changed: int, _bytes: int, side: int) -> Look | str:
    try:
        data = read_bytes(path)
        image, size = _open(data, str(path), side)
    except UserError as error:
        return f"{error.problem} {error.fix}"
    scale = min(1.0, side / min(image.size))
    grey = image.convert("L").resize(_scaled(image.size, scale), Image.Resampling.BOX)
    small = image.resize(_scaled(image.size, min(1.0, BAR_SIDE / max(image.size))), Image.Resampling.BOX)
    sharp = sharpness(np.asarray(grey, dtype=np.float32))
    bars = find_bars(np.asarray(small, dtype=np.int16))
    return Look(size, hashlib.sha256(data).digest(), shrink(image).tobytes(), sharp, bars)


def _open(data: bytes, name: str, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Open a picture, at least as large as `side` where it is, and say how large it is in training."""
    quick = _draft(data, side)
    if quick is not None:
        return quick
    image = decode_picture(data, name)
    return image, image.size


def _draft(data: bytes, side: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """Decode a large photo at a half, a quarter or an eighth of its size: four times as fast, and as good here.

    None for all others, and where anything is wrong with it: then the thorough way says what.
    """
    try:
        with open_header(data, ("JPEG",)) as photo:
            if photo.mode not in {"L", "RGB"} or min(photo.size) < 2 * side:
                return None
            turn = photo.getexif().get(ORIENTATION, 1)
            size = reduced(photo.size)
            photo.draft(photo.mode, (side, side))
            image = ImageOps.exif_transpose(photo).convert("RGB")
            return image, size[::-1] if turn >= 5 else size
    except BAD_HEADER:
        return None


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
