"""Aspect-ratio buckets: a few shapes of about the same area, so that pictures lose little to cropping.

The idea is NovelAI's (2022, "NovelAI improvements on Stable Diffusion", section "Aspect Ratio Bucketing").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.contract.errors import UserError

Size = tuple[int, int]
Box = tuple[float, float, float, float]
UNLIKE = 0.02  # sides of a mask and its picture may differ by so much in proportion
CENTRE = (0.5, 0.5)


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape that pictures are brought to, in pixels."""

    width: int
    height: int


def make_buckets(resolution: int, step: int, max_aspect: float = 2.0) -> tuple[Bucket, ...]:
    """Return the shapes for a resolution, from the tallest to the widest.

    Every side is a multiple of `step`, no area is above `resolution` squared, and for each width the height is the
    largest that allows. The square is always among them, and with each shape its mirror image.

    Args:
        resolution: side of the square in pixels, rounded down to a multiple of `step`.
        step: pixels; at least the VAE's factor times the UNet's, 64 for Stable Diffusion.
        max_aspect: largest ratio of the long side to the short one, at least 1; 1 gives the square alone.

    Raises:
        UserError: no shape is possible.
    """
    if step < 1 or resolution < step:
        problem = f"A resolution of {resolution} pixels in steps of {step} leaves no shape."
        raise UserError(problem, "dataset.resolution", f"Use a resolution of at least {max(step, 1)} pixels.")
    if max_aspect < 1:
        raise UserError(f"A largest aspect ratio of {max_aspect} is below 1.", "dataset", "Use 1 for squares alone.")
    square = resolution // step * step
    shapes = {Bucket(square, square)}
    for long in range(square + step, math.floor(resolution * math.sqrt(max_aspect)) + step, step):
        short = resolution * resolution // long // step * step
        if short and long / short <= max_aspect:
            shapes |= {Bucket(long, short), Bucket(short, long)}
    return tuple(sorted(shapes, key=lambda bucket: (bucket.width / bucket.height, bucket)))


def is_alike(mask: Size, picture: Size) -> bool:
    """Whether a mask has its picture's shape, in whatever size."""
    return abs(mask[0] * picture[1] / (mask[1] * picture[0]) - 1) <= UNLIKE


def nearest(size: Size, buckets: Sequence[Bucket]) -> Bucket:
    """Return the bucket whose aspect is nearest to that of `size` (width, height), on a logarithmic scale.

    On that scale twice as wide is as far from the square as twice as tall. Of equal ones the larger wins.
    """
    aspect = math.log(size[0] / size[1])

    def distance(bucket: Bucket) -> tuple[float, int, int]:
        off = abs(math.log(bucket.width / bucket.height) - aspect)
        return round(off, 9), -bucket.width * bucket.height, bucket.width

    return min(buckets, key=distance)


def crop_box(size: Size, bucket: Bucket, at: tuple[float, float] = CENTRE) -> Box:
    """Return the largest part of a picture that has the bucket's aspect.

    Args:
        size: (width, height) of the picture in pixels.
        bucket: the shape it is brought to.
        at: where in the leftover space the part lies, 0 (left, top) to 1 (right, bottom).

    Returns:
        (left, top, right, bottom) in the picture's pixels, not rounded: rounding would distort small pictures.
    """
    width, height = size
    scale = min(width / bucket.width, height / bucket.height)
    part_width, part_height = min(width, bucket.width * scale), min(height, bucket.height * scale)
    left, top = (width - part_width) * at[0], (height - part_height) * at[1]
    return left, top, min(width, left + part_width), min(height, top + part_height)
