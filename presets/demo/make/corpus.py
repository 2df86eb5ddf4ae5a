"""The base model's corpus: emoji drawn from the Noto Color Emoji font, captioned by their names and a little grammar.

`draw(seed)` is a pure function: the same seed and font always give the same picture and caption.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from presets.demo.make.colour import SHADES, recolour
from presets.demo.make.names import FACES, HANDS, candidates, is_person, without_colour

SIZE = 128
FONT_PATHS = (
    "NotoColorEmoji.ttf",  # wherever the system's font search finds it
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",  # Debian, Ubuntu: fonts-noto-color-emoji
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
)
STRIKE = 109  # the one bitmap size in the font: 136 x 128 pixels


@dataclass(frozen=True)
class Accessory:
    """Where a thing sits on a round face: centre and width, as shares of the face's box; tilt in degrees."""

    emoji: str
    x: float
    y: float
    width: float
    tilt: float = 0


ACCESSORIES = {
    "sunglasses": Accessory("🕶", 0.5, 0.42, 0.86),
    "glasses": Accessory("👓", 0.5, 0.42, 0.86),
    "top hat": Accessory("🎩", 0.5, -0.12, 0.66),
    "crown": Accessory("👑", 0.5, -0.04, 0.6),
    "bow": Accessory("🎀", 0.8, 0.06, 0.46, -20),
    "graduation cap": Accessory("🎓", 0.5, -0.02, 0.84),
    "cap": Accessory("🧢", 0.5, 0.03, 0.8),
    "helmet": Accessory("🪖", 0.5, 0.02, 0.92),
    "headphones": Accessory("🎧", 0.5, 0.32, 1.12),
    "diving mask": Accessory("🤿", 0.5, 0.42, 0.8),
    "straw hat": Accessory("👒", 0.5, 0.0, 0.9),
}
KINDS = {
    "plain": 0.44,
    "background": 0.19,
    "coloured": 0.12,
    "coloured background": 0.04,
    "accessory": 0.08,
    "pair": 0.08,
    "altered": 0.05,
}


class FontMissing(FileNotFoundError):
    """No Noto Color Emoji font with bitmaps was found."""


@cache
def font() -> ImageFont.FreeTypeFont:
    """The emoji font at its bitmap size."""
    for path in FONT_PATHS:
        try:
            return ImageFont.truetype(path, STRIKE)
        except OSError:
            continue
    raise FontMissing("NotoColorEmoji.ttf not found: install fonts-noto-color-emoji")


@cache
def glyph(text: str) -> Image.Image | None:
    """One emoji as RGBA, cut to its ink; None where the font has no picture, or the sequence does not join into one."""
    if font().getlength(text) > 1.05 * 136:
        return None
    cell = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(cell).text((8, 8), text, font=font(), embedded_color=True)
    box = cell.getbbox()
    return cell.crop(box) if box else None


@cache
def things() -> dict[str, str]:
    """{name: emoji} of every thing the base model knows, in a fixed order."""
    if not features.check("raqm"):
        raise RuntimeError("Pillow lacks Raqm text layout, which joins emoji sequences: install libfribidi")
    found: dict[str, str] = {}
    for name, text in candidates():
        if glyph(text) is not None:
            found.setdefault(name, text)
    return found


@cache
def faces() -> dict[str, str]:
    """The round faces accessories go on."""
    return {name: text for name, text in things().items() if len(text) == 1 and ord(text) in FACES}


def article(name: str) -> str:
    """The name with its article, where one sounds right.

    >>> article("old key"), article("scissors")
    ('an old key', 'scissors')
    """
    if (name.endswith("s") and not name.endswith(("ss", "us"))) or " and " in name:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def held_out(*words: str) -> bool:
    """Whether a combination is kept from training, to see later if the model can make it. About one in twenty.

    >>> held_out("purple", "rocket") == held_out("purple", "rocket")
    True
    """
    return zlib.crc32(" | ".join(words).encode()) % 20 == 0


def fit(picture: Image.Image, size: float) -> Image.Image:
    """The picture scaled so that its longer side is `size`; bitmaps are never enlarged."""
    scale = min(size / max(picture.size), 1.0)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture if scale == 1.0 else picture.resize((width, height), Image.Resampling.LANCZOS)


def place(canvas: Image.Image, picture: Image.Image, x: float, y: float) -> None:
    """Paste an RGBA picture with its centre at (x, y)."""
    canvas.alpha_composite(picture, (max(0, round(x - picture.width / 2)), max(0, round(y - picture.height / 2))))


def wear(face: Image.Image, item: Accessory) -> Image.Image:
    """A face with a thing on it, on a canvas of its own."""
    side = 128
    canvas = Image.new("RGBA", (2 * side, 2 * side))
    face = fit(face, side)
    left, top = side - face.width / 2, side - face.height / 2
    place(canvas, face, side, side)
    worn = glyph(item.emoji)
    if worn is None:
        raise FontMissing(f"the font lacks {item.emoji}")
    width = round(item.width * face.width)
    worn = worn.resize((width, round(worn.height * width / worn.width)), Image.Resampling.LANCZOS)
    worn = worn.rotate(item.tilt, Image.Resampling.BICUBIC, expand=True)
    place(canvas, worn, left + item.x * face.width, top + item.y * face.height)
    return canvas.crop(canvas.getbbox())


def on(background: str, picture: Image.Image, rng: random.Random, size: float = 0) -> Image.Image:
    """The picture about the middle of a SIZE x SIZE background, at a size near to full unless one is given."""
    canvas = Image.new("RGBA", (SIZE, SIZE), background)
    picture = fit(picture, size or rng.uniform(98, 122))
    slack_x, slack_y = (min(6.0, (SIZE - side) / 2) for side in picture.size)
    place(canvas, picture, SIZE / 2 + rng.uniform(-slack_x, slack_x), SIZE / 2 + rng.uniform(-slack_y, slack_y))
    return canvas.convert("RGB")


def backdrop(name: str, rng: random.Random) -> tuple[str, str]:
    """(caption ending, CSS colour) for a thing: a colour word and one of its shades."""
    colour = rng.choice([c for c in SHADES if not held_out("background", c, name)] or ["white"])
    return f" on a{'n' if colour == 'orange' else ''} {colour} background", rng.choice(SHADES[colour])


def pick(rng: random.Random, among: dict[str, str]) -> tuple[str, Image.Image]:
    """A random thing: (name, picture), sometimes mirrored, but for hands, which point somewhere."""
    name = rng.choice(list(among))
    picture = glyph(among[name])
    assert picture is not None  # things() holds only what the font has
    if rng.random() < 0.1 and not (len(among[name]) == 1 and ord(among[name]) in HANDS):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return name, picture


def coloured(rng: random.Random) -> tuple[str, Image.Image]:
    """A thing in a colour that is not its own: ("purple rocket", picture)."""
    while True:
        name, picture = pick(rng, things())
        colour, plain = rng.choice(list(SHADES)), without_colour(name)
        if plain and not is_person(name) and not held_out(colour, plain) and (turned := recolour(picture, colour)):
            return f"{colour} {plain}", turned


def accessorised(rng: random.Random) -> tuple[str, Image.Image]:
    """A face with something on: ("cat face with top hat", picture)."""
    while True:
        name, face = pick(rng, faces())
        worn = rng.choice(list(ACCESSORIES))
        if not held_out(name, worn) and "with" not in name:
            return f"{name} with {worn}", wear(face, ACCESSORIES[worn])


def paired(rng: random.Random) -> tuple[str, Image.Image]:
    """Two things side by side: ("cat face and rocket", picture)."""
    while True:
        (left, first), (right, second) = pick(rng, things()), pick(rng, things())
        if left != right and not held_out(left, right) and " and " not in left + right:
            canvas = Image.new("RGBA", (124, 124))
            place(canvas, fit(first, 60), 31, 62)
            place(canvas, fit(second, 60), 93, 62)
            return f"{left} and {right}", canvas


def altered(rng: random.Random) -> tuple[str, Image.Image, float]:
    """A thing made small, tilted, upside down, pixelated or a silhouette: (caption, picture, size or 0)."""
    name, picture = pick(rng, things())
    match rng.choice(("small", "tilted", "upside down", "pixelated", "silhouette")):
        case "small":
            return f"small {name}", picture, rng.uniform(48, 64)
        case "tilted":
            angle = rng.choice((-1, 1)) * rng.uniform(18, 35)
            return f"tilted {name}", picture.rotate(angle, Image.Resampling.BICUBIC, expand=True), 0
        case "upside down":
            return f"upside down {name}", picture.transpose(Image.Transpose.ROTATE_180), 0
        case "pixelated":
            return f"pixelated {name}", fit(picture, 22).resize(picture.size, Image.Resampling.NEAREST), 0
        case _:
            flat = Image.new("RGBA", picture.size, rng.choice(SHADES["black"]))
            flat.putalpha(picture.getchannel("A").filter(ImageFilter.GaussianBlur(0.5)))
            return f"{name} silhouette", flat, 0


def draw(seed: int) -> tuple[Image.Image, str]:
    """One training pair: (RGB picture of SIZE x SIZE, caption)."""
    rng = random.Random(seed)
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    size: float = 0
    if kind in ("plain", "background"):
        caption, picture = pick(rng, things())
    elif kind in ("coloured", "coloured background"):
        caption, picture = coloured(rng)
    elif kind == "accessory":
        caption, picture = accessorised(rng)
    elif kind == "pair":
        (caption, picture), size = paired(rng), 124
    else:
        caption, picture, size = altered(rng)
    ending, background = "", "white"
    if kind.endswith("background") or (kind in ("accessory", "pair", "altered") and rng.random() < 0.2):
        ending, background = backdrop(caption, rng)
    if rng.random() < 0.25:
        caption = article(caption)
    return on(background, picture, rng, size), caption + ending


Painter = Callable[[int], tuple[Image.Image, str]]


def _paint(job: tuple[Painter, Path, range]) -> list[str]:
    painter, path, seeds = job
    pictures = np.load(path, mmap_mode="r+")
    captions = []
    for seed in seeds:
        picture, caption = painter(seed)
        pictures[seed] = np.asarray(picture)
        captions.append(caption)
    return captions


def draw_many(painter: Painter, count: int, path: Path, workers: int) -> list[str]:
    """Draw seeds 0..count into the .npy file `path`, uint8 (count, SIZE, SIZE, 3), in parallel; gives the captions."""
    things()  # read before the fork: every process then shares one set of glyphs
    np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIZE, SIZE, 3)).flush()
    jobs = [(painter, path, range(first, min(first + 256, count))) for first in range(0, count, 256)]
    with get_context("fork").Pool(workers) as pool:
        return [caption for part in pool.map(_paint, jobs, chunksize=1) for caption in part]
