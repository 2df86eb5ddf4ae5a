"""One way to open a picture: upright, sRGB, eight bits, no alpha, whatever the file was."""

import functools
import importlib
import io
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from trainer.contract.errors import UserError
from trainer.pictures.large import divisor, reduced
from trainer.pictures.levels import bits_of, to_eight_bits
from trainer.pictures.png import bare_png

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff")
)
# Pictures to a person, but not to us: named in the report instead of passed over.
FOREIGN_SUFFIXES = frozenset((
    ".psd", ".psb", ".xcf", ".kra", ".svg", ".eps", ".ai", ".pdf", ".jxl", ".jp2", ".j2k", ".jxr", ".tga", ".exr",
    ".hdr", ".ico", ".pcx", ".ppm", ".pgm", ".dds", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2",
))  # fmt: skip
READABLE = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP and TIFF pictures can be read"
UNSUPPORTED = f"{{suffix}} files are not supported; {READABLE}."  # of `FOREIGN_SUFFIXES`
MAX_PIXELS = 178_956_970  # Pillow's own limit: about 680 MB while it is being converted
MAX_JPEG_PIXELS = 2**29  # of a JPEG less is decoded; the coefficients of a progressive one take 1.6 GB
MAX_FILE_BYTES = 512 * 2**20

# A closed list, because Pillow also opens formats that start other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# Workflows and profiles of scanners are longer than Pillow's 1 MiB, and the picture must not be lost for them.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20
_AGAIN = "Open it in a picture editor and save it again, or remove it."
_SMALLER = "Make it smaller in a picture editor; training never needs more than a few megapixels."

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
ORIENTATION = 0x0112  # EXIF tag; from 5 on the picture lies on its side
# What Pillow raises on a header that is damaged, of another format, or too large.
BAD_HEADER = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip

# How files begin that may be pictures whatever they are called: (offset, bytes).
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*")  # and how the raw files of most cameras begin
_BEGINNINGS = (
    (0, _JPEG), (0, b"\x89PNG\r\n\x1a\n"), (0, b"GIF8"), (8, b"WEBP"), *((0, magic) for magic in _TIFF),
    *((4, b"ftyp" + brand) for brand in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")),
)  # fmt: skip
BEGINNING = 16  # bytes of a file that `looks_like_picture` needs


@dataclass(frozen=True)
class Decoded:
    """A picture out of its file.

    Attributes:
        picture: RGB in sRGB, upright, without metadata; `format` is Pillow's name of the file's format.
        alpha: grey, white where the picture is opaque; None where all of it is.
        several: the file holds more frames or pages, of which this is the first.
        plain: nothing had to be done: the file's pixels are these as they stand, or as `large` reduces them.
        divisor: what the sides of a very large picture were divided by, otherwise 1.
    """

    picture: Image.Image
    alpha: Image.Image | None
    several: bool
    plain: bool
    divisor: int = 1


def looks_like_picture(beginning: bytes) -> bool:
    """Whether a file that begins like this is probably a picture; BMP, which has no telling beginning, is not known."""
    return any(beginning.startswith(magic, offset) for offset, magic in _BEGINNINGS)


def is_foreign(suffix: str, beginning: bytes) -> bool:
    """Whether a file is a picture of a kind that nobody reads here: so its suffix says, and it is no other one."""
    return suffix.lower() in FOREIGN_SUFFIXES and (
        beginning.startswith(_TIFF) or not looks_like_picture(beginning[:BEGINNING])
    )


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
    return decode(data, name, background).picture


def decode(data: bytes, name: str, background: Colour = WHITE) -> Decoded:
    """Decode a picture with what a copy of it needs to know; otherwise the same as `decode_picture`."""
    try:
        try:
            return _load(data, background)
        except (OSError, SyntaxError, ValueError):
            bare = bare_png(data)
            if bare is None:
                raise
            return _load(bare, background)
    except UnidentifiedImageError as error:
        if looks_like_picture(data[:BEGINNING]):
            raise UserError("The picture is damaged, or of a rare kind of its format.", name, _AGAIN) from error
        problem = "The file is empty." if not data else "The file is not a picture of a known format."
        raise UserError(problem, name, READABLE + ".") from error
    except Image.DecompressionBombError as error:
        counted = re.match(r"Image size \((\d+) pixels\)", str(error))  # what Pillow says, and more
        size = f"{int(counted[1]) // 10**6} megapixels" if counted else str(error)
        problem = f"The picture is larger than {_most(data) // 10**6} megapixels ({size})."
        raise UserError(problem, name, _SMALLER) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind of error on damaged files
        raise UserError(f"The picture is damaged or cut off ({error}).", name, _AGAIN) from error


def open_header(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Open a picture without decoding it, as Pillow does, and JPEGs too of which only a part will be decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        if "JPEG" not in formats or not data.startswith(_JPEG):
            raise
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def _most(data: bytes) -> int:
    """Most pixels that a picture may have."""
    return MAX_JPEG_PIXELS if data.startswith(_JPEG) else MAX_PIXELS


def _load(data: bytes, background: Colour) -> Decoded:
    with open_header(data, (*_FORMATS, "HEIF") if register_heif() else _FORMATS) as source:
        size = source.size
        if math.prod(size) > _most(data) or math.prod(reduced(size)) > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{source.width} x {source.height} pixels")
        by = divisor(size)
        if by > 1:
            source.draft("", (size[0] // by, size[1] // by))  # a JPEG gets smaller by it, nothing else
        _narrow_clear_colour(source)
        source.load()
        return _finish(source, background, size)


def _narrow_clear_colour(source: Image.Image) -> None:
    """Bring the transparent colour of a PNG to eight bits, where Pillow will bring the others there."""
    clear, tiles = source.info.get("transparency"), getattr(source, "tile", [])
    if isinstance(clear, tuple) and any("16" in str(tile.args) for tile in tiles):
        source.info["transparency"] = tuple(level >> 8 for level in clear)


@functools.cache
def register_heif() -> bool:
    """Teach Pillow to read HEIC and HEIF, once. Returns whether it can."""
    try:
        plugin = importlib.import_module("pi_heif")
    except ImportError:  # no wheel on this platform: HEIC files are then reported as unknown, the rest works
        return False
    plugin.register_heif_opener()
    return True


def _finish(source: Image.Image, background: Colour, size: tuple[int, int]) -> Decoded:
    """Bring a loaded picture into shape; `size` is what its header says."""
    several, by = _has_more(source), divisor(size)
    image, turned = _upright(source)
    image = _to_srgb(to_eight_bits(image, bits_of(source)))
    picture, alpha = _flatten(image, background)
    if by > 1 and source.size == size:
        picture, alpha = picture.reduce(by), alpha and alpha.reduce(by)
    picture.format = source.format
    mode, profile = source.mode, source.info.get("icc_profile")
    plain = mode in {"RGB", "L"} and not turned and (not profile or is_srgb(profile, mode))
    return Decoded(picture, alpha, several, plain, by)


def _has_more(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photo with its own preview, or the other eye's view
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except BAD_HEADER:
        return True  # there is something behind the first frame, and it is damaged


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture turned as its EXIF says, and whether it says so."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
        return (ImageOps.exif_transpose(image) if turned else image), turned
    except BAD_HEADER:
        return image, False  # damaged EXIF says nothing about the pixels, which are loaded already


@functools.lru_cache(maxsize=8)
def is_srgb(profile: bytes, mode: str) -> bool:
    """Whether an ICC profile leaves every colour of "RGB" or "L" pixels where it is in sRGB, but for rounding."""
    steps = np.linspace(0, 255, 17 if mode == "RGB" else 256).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, -1, 3) if mode == "RGB" else steps[None]
    image = Image.fromarray(np.ascontiguousarray(colours))
    through = _through_profile(image, profile)
    if through is None:
        return True  # it does not fit, so nothing goes through it
    apart = np.asarray(image.convert("RGB"), dtype=np.int16) - np.asarray(through, dtype=np.int16)
    return int(np.abs(apart).max()) <= 2


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


def _flatten(image: Image.Image, background: Colour) -> tuple[Image.Image, Image.Image | None]:
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    if alpha is None:
        flat = image.convert("RGB")
    else:
        flat = Image.new("RGB", image.size, background)
        flat.paste(image, mask=alpha)
        alpha.info = {}
    flat.info = {}  # a left-over profile or EXIF block would be saved again, and applied twice
    return flat, alpha
