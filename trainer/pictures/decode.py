"""One way to open a picture: upright, sRGB, eight bits, no alpha, whatever the file was."""

import functools
import importlib
import io
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from trainer.contract.errors import UserError

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff")
)
READABLE = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP and TIFF pictures can be read"
MAX_PIXELS = 178_956_970  # Pillow's own limit: about 680 MB while it is being converted
MAX_FILE_BYTES = 512 * 2**20

# A closed list, because Pillow also opens formats that start other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SMALLER = "Make it smaller in a picture editor; training never needs more than a few megapixels."

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)


def open_picture(path: Path, background: Colour = WHITE) -> Image.Image:
    """Open a picture file the way a viewer shows it.

    The format is found from the content, never from the suffix. Of an animation the first frame is taken.

    Args:
        path: the picture file.
        background: sRGB colour (0 to 255 each) that shows through transparent parts.

    Returns:
        A loaded RGB image in sRGB, upright, without metadata; `format` is Pillow's name of the file's format.

    Raises:
        UserError: the file is missing, damaged, too large or not a picture; it names the file.
    """
    return decode_picture(read_bytes(path), str(path), background)


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a file whole, up to `limit` bytes.

    Raises:
        UserError: the file cannot be read or is too large.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            problem = f"The file has {size / 2**20:.0f} MiB; at most {limit // 2**20} MiB are read."
            raise UserError(problem, str(path), _SMALLER)
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Check that the file is there and that you may read it."
        raise UserError(f"The file could not be read ({reason}).", str(path), fix) from error


def decode_picture(data: bytes, name: str, background: Colour = WHITE) -> Image.Image:
    """Decode a picture from the bytes of its file; otherwise the same as `open_picture`.

    Args:
        data: the whole file.
        name: what to call it in an error.
        background: sRGB colour (0 to 255 each) that shows through transparent parts.

    Raises:
        UserError: the bytes are damaged, too large a picture or not a picture.
    """
    formats = (*_FORMATS, "HEIF") if register_heif() else _FORMATS
    try:
        with Image.open(io.BytesIO(data), formats=formats) as source:
            pixels = math.prod(source.size)
            if pixels > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{source.width} x {source.height} pixels")
            source.load()
            picture = _flatten(_to_srgb(_to_eight_bits(_upright(source))), background)
            picture.format = source.format
            return picture
    except UnidentifiedImageError as error:
        problem = "The file is empty." if not data else "The file is not a picture of a known format."
        raise UserError(problem, name, READABLE + ".") from error
    except Image.DecompressionBombError as error:
        problem = f"The picture is larger than {MAX_PIXELS // 10**6} megapixels ({error})."
        raise UserError(problem, name, _SMALLER) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind of error on damaged files
        fix = "Open it in a picture editor and save it again, or remove it."
        raise UserError(f"The picture is damaged or cut off ({error}).", name, fix) from error


@functools.cache
def register_heif() -> bool:
    """Teach Pillow to read HEIC and HEIF, once. Returns whether it can."""
    try:
        plugin = importlib.import_module("pi_heif")
    except ImportError:  # no wheel on this platform: HEIC files are then reported as unknown, the rest works
        return False
    plugin.register_heif_opener()
    return True


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        # Damaged EXIF says nothing about the pixels, which are loaded already.
        return image.copy()


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating point grey to eight bits; Pillow's own conversion would clip it."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    peak = float(values.max(initial=0.0))
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    full = next((scale for scale in scales if peak <= scale), peak)
    grey = Image.fromarray(np.rint(values.clip(min=0.0) * (255.0 / full)).astype(np.uint8))
    grey.info = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    return grey


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return RGB or RGBA in sRGB, through the embedded ICC profile where there is a usable one."""
    clear = image.has_transparency_data
    profile = image.info.get("icc_profile")
    if profile:
        # A palette is RGB data, so its profile is an RGB one.
        plain = image.convert("RGB") if image.mode in {"P", "PA", "RGBA", "RGBX", "1"} else image
        if plain.mode == "LA":
            plain = plain.getchannel("L")
        colours = _through_profile(plain, profile)
        if colours is not None:
            if clear:
                colours.putalpha(image.convert("RGBA").getchannel("A"))
            return colours
    return image.convert("RGBA" if clear else "RGB")


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        done = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
        return None  # a damaged profile, or one for another kind of pixels: viewers ignore it as well
    return done


def _flatten(image: Image.Image, background: Colour) -> Image.Image:
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(canvas, image)
    flat = image.convert("RGB")
    flat.info = {}  # a left-over profile or EXIF block would be saved again, and applied twice
    return flat
