"""What the model sees of a set: the bucket of every picture, what it is resized to, and the part that is kept.

Training and the page's crop preview read the same plan, so what is shown is what is learned.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from trainer.pictures.album import Entry
from trainer.pictures.buckets import CENTRE, Box, Bucket, Size, crop_box, make_buckets, nearest

Crop = Literal["focus", "centre", "random"]
VARIANTS = 4  # crops of a picture where they are random: all of them are cached, a view draws one
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class CropOptions:
    """How pictures are brought to a base's shapes.

    Attributes:
        resolutions: sides of the squares whose area pictures are brought to, in pixels; each picture is seen at all.
        step: picture sides are multiples of this, in pixels.
        crop: what is kept: the part around the picture's focus point (its middle where it has none), the middle, or
            parts spread over the picture.
        max_upscale: most that a picture is enlarged by; a smaller one goes into a smaller bucket.
    """

    resolutions: tuple[int, ...]
    step: int
    crop: Crop = "focus"
    max_upscale: float = 2.0


@dataclass(frozen=True)
class Shown:
    """A picture at one resolution, as the model sees it.

    Attributes:
        entry: the picture.
        size: its upright (width, height) in pixels.
        resolution: the one that was asked for.
        bucket: the shape that the model gets.
        boxes: the parts that are kept, (left, top, right, bottom) in the picture's own pixels, not rounded; several
            where crops are random.
    """

    entry: Entry
    size: Size
    resolution: int
    bucket: Bucket
    boxes: tuple[Box, ...]

    @property
    def scale(self) -> float:
        """What the picture is enlarged by, below 1 where it is made smaller."""
        return enlargement(self.size, self.bucket)

    @property
    def resized(self) -> Size:
        """(width, height) in pixels of the whole picture after resizing."""
        width, height = (round(side * self.scale) for side in self.size)
        return max(width, self.bucket.width), max(height, self.bucket.height)

    def rectangle(self, variant: int = 0) -> Rectangle:
        """(left, top, right, bottom) of a kept part in the resized picture: exactly the bucket, inside the picture."""
        left, top = (round(edge * self.scale) for edge in self.boxes[variant][:2])
        left = min(left, self.resized[0] - self.bucket.width)
        top = min(top, self.resized[1] - self.bucket.height)
        return left, top, left + self.bucket.width, top + self.bucket.height


def plan(entries: Iterable[tuple[Entry, Size]], options: CropOptions) -> list[Shown]:
    """Plan what the model sees of some pictures.

    A picture goes into the bucket with the aspect nearest to its own among those of the resolution's area. Only where
    it would have to be enlarged by more than `max_upscale` it goes into one of a smaller area, and into no smaller one
    than it needs; the smallest ones take what is smaller still. So no picture is left out.

    Args:
        entries: pictures with their upright (width, height) in pixels; excluded ones are left out.
        options: see `CropOptions`.

    Returns:
        One for every picture and resolution: all pictures of the first resolution, then those of the next.

    Raises:
        UserError: a resolution leaves no shape.
    """
    pictures = [(entry, size) for entry, size in entries if not entry.excluded]
    return [_show(entry, size, resolution, options) for resolution in options.resolutions for entry, size in pictures]


def enlargement(size: Size, bucket: Bucket) -> float:
    """What a picture of `size` is enlarged by to fill a bucket."""
    return max(bucket.width / size[0], bucket.height / size[1])


def choose_bucket(size: Size, resolution: int, options: CropOptions) -> Bucket:
    """Return the bucket of a picture; see `plan`."""
    for grid in _grids(resolution, options.step):
        bucket = nearest(size, grid)
        if enlargement(size, bucket) <= options.max_upscale:
            break
    return bucket


def crop_boxes(size: Size, bucket: Bucket, crop: Crop, focus: tuple[float, float] | None) -> tuple[Box, ...]:
    """Return the parts of a picture that are kept, each the largest of the bucket's shape."""
    if crop == "random":
        left, top, right, bottom = crop_box(size, bucket)
        spare = max(size[0] - right + left, size[1] - bottom + top) * enlargement(size, bucket)
        count = min(VARIANTS, 1 + int(spare))  # a crop moved by less than a pixel is the same one
        places = [(i / (count - 1), i / (count - 1)) for i in range(count)] if count > 1 else [CENTRE]
        return tuple(crop_box(size, bucket, at) for at in places)
    return (crop_box(size, bucket, _around(size, bucket, focus) if crop == "focus" and focus else CENTRE),)


def _show(entry: Entry, size: Size, resolution: int, options: CropOptions) -> Shown:
    bucket = choose_bucket(size, resolution, options)
    return Shown(entry, size, resolution, bucket, crop_boxes(size, bucket, options.crop, entry.focus))


def _around(size: Size, bucket: Bucket, focus: tuple[float, float]) -> tuple[float, float]:
    """Where in the leftover space the part lies whose middle is as near to the focus point as it can be."""
    left, top, right, bottom = crop_box(size, bucket)
    parts = (right - left, bottom - top)
    x, y = (
        min(1.0, max(0.0, (at * side - part / 2) / (side - part))) if side > part else 0.5
        for at, side, part in zip(focus, size, parts, strict=True)
    )
    return x, y


def _grids(resolution: int, step: int) -> Iterator[Sequence[Bucket]]:
    """The shapes for a resolution, then those for ever smaller ones; the last is a single square of one step."""
    yield _shapes(resolution, step)
    for smaller in range((resolution - 1) // step * step, 0, -step):
        yield _shapes(smaller, step)


@lru_cache(maxsize=512)
def _shapes(resolution: int, step: int) -> tuple[Bucket, ...]:
    return make_buckets(resolution, step)
