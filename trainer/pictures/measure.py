"""Size and identity of a picture file, told without decoding it where that can be."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

from PIL import Image

from trainer.contract.errors import UserError
from trainer.pictures.buckets import Size, is_alike
from trainer.pictures.decode import BAD_HEADER, ORIENTATION, decode, decode_picture, open_header, read_bytes
from trainer.pictures.gather import Picture
from trainer.pictures.large import reduced

READERS = min(8, cpu_count() or 1)  # Pillow and hashlib let go of the GIL
QUICK = ("JPEG", "PNG", "WEBP", "BMP")  # their headers tell the upright size
CLEAR = ("PNG", "WEBP", "GIF", "TIFF", "AVIF")  # may be transparent
TURNING = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # a PNG with one of them may lie on its side


@dataclass(frozen=True)
class Measured:
    """A picture file as it is now.

    Attributes:
        picture: see `Picture`.
        size: upright (width, height) in pixels.
        digest: SHA-256 of the file's bytes, 64 hex digits.
        mask_digest: tells its mask from others: that of a file, or its own alpha channel; "" without one.
        mask_trouble: a sentence on the file of its mask where that cannot be used; it counts as none then.
    """

    picture: Picture
    size: Size
    digest: str
    mask_digest: str = ""
    mask_trouble: str = ""


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be trained on, and why."""

    picture: Picture
    reason: str


def measure_all(
    pictures: Sequence[Picture], masks: bool, told: Callable[[int, int], None] = lambda done, total: None
) -> list[Measured | Unusable]:
    """Measure pictures, several at a time.

    Args:
        pictures: of a run.
        masks: whether theirs are wanted.
        told: hears (pictures done, pictures in all).
    """
    found = []
    with ThreadPoolExecutor(READERS) as pool:
        for done, one in enumerate(pool.map(lambda picture: _measure(picture, masks), pictures), start=1):
            found.append(one)
            told(done, len(pictures))
    return found


def _measure(picture: Picture, masks: bool) -> Measured | Unusable:
    try:
        data = read_bytes(picture.path)
        size, digest = upright_size(data, str(picture.path)), hashlib.sha256(data).hexdigest()
        if not masks:
            return Measured(picture, size, digest)
        if picture.mask:
            return Measured(picture, size, digest, *_mask_of(picture.mask, size))
        return Measured(picture, size, digest, f"alpha of {digest}" if is_clear(data, str(picture.path)) else "")
    except UserError as error:
        return Unusable(picture, f"{error.problem} {error.fix}")


def _mask_of(path: Path, size: Size) -> tuple[str, str]:
    """Digest of a mask's file, and why it cannot be used: one of them is empty."""
    try:
        data = read_bytes(path)
        mask = decode_picture(data, str(path)).size
    except UserError as error:
        return "", f"the mask {path.name} is not used: {error.problem}"
    if not is_alike(mask, size):
        return "", f"the mask {path.name} is not used: {mask[0]} x {mask[1]} is not the picture's shape"
    return hashlib.sha256(data).hexdigest(), ""


def upright_size(data: bytes, name: str) -> Size:
    """(width, height) in pixels of what `decode_picture` makes of a file, from its bytes.

    Raises:
        UserError: it is damaged or no picture.
    """
    try:
        with open_header(data, QUICK) as image:
            width, height = reduced(image.size)
            if image.format != "PNG":
                turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
                return (height, width) if turned else (width, height)
            if not any(mark in data for mark in TURNING):  # Pillow would decode it to find out
                return width, height
    except BAD_HEADER:
        pass  # the full decoder knows more formats and says what is wrong
    return decode_picture(data, name).size


def is_clear(data: bytes, name: str) -> bool:
    """Whether some of a picture is transparent; only a format and mode that allow it is decoded to find out.

    Raises:
        UserError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=CLEAR) as image:
            maybe = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    except BAD_HEADER:
        return False  # of another format, or damaged, which is said when it is decoded
    return maybe and decode(data, name).alpha is not None
