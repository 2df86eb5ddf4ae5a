"""Pictures for the page: small copies in a cache of our own, so that nothing a user put there is served as it is."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from app import owners
from trainer.contract.errors import UserError
from trainer.contract.files import unfinished
from trainer.pictures.decode import open_picture
from trainer.pictures.large import reduced

EVERYBODY = "-all"  # no name of a user
SIDE = 768
SMALL = 256
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: lying on its side
READ_HEADERS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
KEPT = 512 * 2**20  # bytes of copies: about ten thousand small ones and two thousand large ones


def cache(home: Path) -> Path:
    """Folder of the copies of whoever looks: within what Gradio serves, so that it copies nothing once more."""
    who = owners.viewer()
    return home.joinpath(*owners.PICTURES, who.name if who else EVERYBODY)


def copy(home: Path, picture: Path, side: int = SIDE) -> str | None:
    """Return the path of a copy that fits in a square of `side`, made once per version of it; None if unreadable."""
    try:
        facts = picture.stat()
    except OSError:
        return None
    return kept(home, f"{picture}|{facts.st_mtime_ns}|{facts.st_size}", lambda: _opened(picture), side)


def _opened(picture: Path) -> Image.Image | None:
    try:
        return open_picture(picture)
    except UserError:
        return None  # half written, or no picture: the next look may do better


def kept(home: Path, version: str, draw: Callable[[], Image.Image | None], side: int = SIDE) -> str | None:
    """Return the path of a copy of what `draw` gives; it is asked once for each version. None where it gives none."""
    target = cache(home) / f"{hashlib.sha256(f'{version}|{side}'.encode()).hexdigest()[:32]}.webp"
    if target.exists():
        return str(target)
    image = draw()
    if image is None:
        return None
    image.thumbnail((side, side))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(target)
    image.save(temporary, "WEBP", quality=90)
    temporary.replace(target)
    return str(target)


def size(picture: Path) -> tuple[int, int] | None:
    """Return the upright (width, height) in pixels that a picture's header tells; None if it cannot be read."""
    try:
        facts = picture.stat()
    except OSError:
        return None
    return _size(picture, facts.st_mtime_ns)


@functools.lru_cache(maxsize=20_000)
def _size(picture: Path, changed: int) -> tuple[int, int] | None:
    try:
        with Image.open(picture, formats=READ_HEADERS) as image:
            turned = image.getexif().get(ORIENTATION, 1) in TURNED
            width, height = reduced(image.size)
            return (height, width) if turned else (width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # Pillow's words for a damaged header


def blank(home: Path) -> str:
    """Return the path of a grey square, for a picture that cannot be read."""
    target = cache(home) / "blank.webp"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (150, 150, 150)).save(target, "WEBP")
    return str(target)


def tile(home: Path, name: str) -> str:
    """Return the path of a coloured square, always the same for a name: a cover for what has no picture."""
    hue = hashlib.sha256(name.encode()).digest()[0]
    target = cache(home) / f"tile-{hue}.webp"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fade = Image.linear_gradient("L").rotate(135)
        plain = Image.new("L", fade.size)
        colours = Image.merge(
            "HSV", (plain.point(lambda _: hue), plain.point(lambda _: 110), fade.point(lambda v: 130 + v // 3))
        )
        colours.convert("RGB").save(target, "WEBP")
    return str(target)


def sweep(home: Path, keep: int = KEPT) -> None:
    """Delete the oldest copies beyond `keep` bytes."""
    facts = {path: path.stat() for path in home.joinpath(*owners.PICTURES).rglob("*.webp")}
    for path in sorted(facts, key=lambda path: facts[path].st_mtime, reverse=True):
        keep -= facts[path].st_size
        if keep < 0:
            path.unlink(missing_ok=True)
