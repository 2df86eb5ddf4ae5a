"""Grey levels of sixteen bits, of thirty-two and in floating point, brought to eight; Pillow's own way clips them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_BITS, _KIND, _SIGNED = 258, 339, 2  # TIFF 6.0: BitsPerSample, SampleFormat and what that says of signed numbers
_WHITES = (1.0, 255.0, 65535.0)  # of floating point
_HEADROOM = 4.0  # highlights, and what sharpening adds, are so many times as bright as white, and are cut off
_ROWS = 256  # at a time: a large picture would not fit as floats


def bits_of(source: Image.Image) -> int:
    """How many bits the levels of a file have, 16 where it says nothing or more."""
    tags = getattr(source, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0] - (tags.get(_KIND, (1,))[0] == _SIGNED)
    return int(bits) if 8 <= bits < 16 else 16


def to_eight_bits(image: Image.Image, bits: int = 16) -> Image.Image:
    """Scale the levels of a grey picture to eight bits; any other picture is returned as it is.

    Args:
        image: in any mode.
        bits: of a level that is a whole number. One that is larger all the same becomes white, and all others with it
            become darker.
    """
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.asarray(image)
    strips = [slice(top, top + _ROWS) for top in range(0, image.height, _ROWS)]
    peak = max(float(np.max(values[strip], where=np.isfinite(values[strip]), initial=0)) for strip in strips)
    whites = [white for white in _WHITES if peak <= _HEADROOM * white] if image.mode == "F" else [2.0**bits - 1]
    white = whites[0] if whites and (image.mode == "F" or peak <= whites[0]) else peak
    done = np.empty(values.shape, np.uint8)
    for strip in strips:
        done[strip] = np.rint(_numbers(values[strip], white) * (255.0 / white))
    grey, clear = Image.fromarray(done), image.info.get("transparency")
    if isinstance(clear, int):  # PNG's tRNS names one of the 65 536 greys, not of those that are left
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))
    grey.info = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    return grey


def _numbers(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=white, neginf=0.0).clip(0.0, white)
