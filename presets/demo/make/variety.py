"""Pictures that are not emoji, for the VAE: people will train pencil lines, pixel art or collage on this base.

Every function is pure: it takes a seeded generator and gives a SIZE x SIZE RGB picture.
"""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from presets.demo.make.corpus import SIZE, draw

LETTERS = "ABCDEFGHKLMNRSTXYZabdefghkmnrstz0123456789&?!#%+=~"


def random_colour(rng: random.Random) -> tuple[int, int, int]:
    """Any colour, with black and white more often than chance gives them."""
    roll = rng.random()
    if roll < 0.2:
        return (0, 0, 0) if roll < 0.1 else (255, 255, 255)
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def inks(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Two colours for a drawing: often dark on light or light on dark, as drawings are; else any two."""
    if rng.random() < 0.5:
        return random_colour(rng), random_colour(rng)
    light, dark = rng.randint(215, 255), rng.randint(0, 60)
    pair = (light, light - rng.randint(0, 25), light - rng.randint(0, 40)), (dark, dark, dark + rng.randint(0, 60))
    return pair if rng.random() < 0.7 else pair[::-1]


def gradient(rng: random.Random) -> Image.Image:
    """A linear or radial blend of two colours."""
    ramp = Image.linear_gradient("L") if rng.random() < 0.6 else Image.radial_gradient("L")
    ramp = ramp.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC).crop((53, 53, 203, 203)).resize((SIZE, SIZE))
    return ImageOps.colorize(ramp, random_colour(rng), random_colour(rng))


def noise(rng: random.Random) -> Image.Image:
    """Noise with a power spectrum between white (paper grain) and 1/f^2 (clouds, out-of-focus photographs)."""
    state = np.random.default_rng(rng.getrandbits(32))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) + 1 / SIZE
    spectrum = np.fft.rfft2(state.standard_normal((3, SIZE, SIZE))) / frequency ** rng.uniform(0.3, 2.2)
    field = np.fft.irfft2(spectrum, (SIZE, SIZE))
    field = (field - field.mean()) / field.std()
    if rng.random() < 0.5:
        field[1:] = field[0]
    colour, swing = np.array(random_colour(rng))[:, None, None], rng.uniform(8, 70)
    return Image.fromarray(np.clip(colour + swing * field, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def shapes(rng: random.Random) -> Image.Image:
    """Overlapping flat shapes, strokes and letters, drawn large and scaled down for smooth edges."""
    side = 2 * SIZE
    picture = gradient(rng) if rng.random() < 0.3 else Image.new("RGB", (SIZE, SIZE), random_colour(rng))
    picture = picture.resize((side, side))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(2, 14)):
        colour = random_colour(rng)
        points = [(rng.randrange(side), rng.randrange(side)) for _ in range(rng.randint(3, 5))]
        (x, y), radius, width = points[0], rng.randint(4, 70), rng.randint(2, 14)
        match rng.choice(("disc", "ring", "polygon", "box", "line", "arc", "letter")):
            case "disc":
                pen.ellipse((x - radius, y - radius, x + radius, y + radius * rng.uniform(0.4, 1.6)), colour)
            case "ring":
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), None, colour, width)
            case "polygon":
                pen.polygon(points, colour, random_colour(rng) if rng.random() < 0.4 else None, width)
            case "box":
                pen.rounded_rectangle((x - radius, y - radius, x + radius, y + radius), radius // 3, colour)
            case "line":
                pen.line(points, colour, width, "curve")
            case "arc":
                pen.arc(
                    (x - radius, y - radius, x + radius, y + radius),
                    rng.randrange(360),
                    rng.randrange(360),
                    colour,
                    width,
                )
            case _:
                pen.text(
                    (x, y),
                    rng.choice(LETTERS) + rng.choice(LETTERS),
                    colour,
                    ImageFont.load_default(rng.randint(24, 120)),
                    "mm",
                )
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def pattern(rng: random.Random) -> Image.Image:
    """Parallel or crossed strokes, dots or checks of one ink on one paper."""
    side = 2 * SIZE
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    step, thick = rng.randint(6, 40), rng.uniform(0.15, 0.6)
    kind = rng.choice(("lines", "cross", "dots", "checks"))
    for i in range(-side, 2 * side, step):
        if kind in ("lines", "cross"):
            pen.line((i, 0, i + rng.randint(-4, 4), side), 255, max(2, int(step * thick)))
        if kind == "cross":
            pen.line((0, i, side, i), 255, max(2, int(step * thick)))
        for j in range(0, side, step) if kind in ("dots", "checks") else ():
            if kind == "dots":
                pen.ellipse((i, j, i + step * thick * 1.5, j + step * thick * 1.5), 255)
            elif (i // step + j // step) % 2:
                pen.rectangle((i, j, i + step, j + step), 255)
    mask = mask.rotate(rng.choice((0, 45, 90, rng.uniform(0, 180))), Image.Resampling.BICUBIC).resize(
        (SIZE, SIZE), Image.Resampling.LANCZOS
    )
    return Image.composite(
        Image.new("RGB", mask.size, random_colour(rng)), Image.new("RGB", mask.size, random_colour(rng)), mask
    )


def lines(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A line drawing: edges as dark strokes on light paper, or bright ones on dark."""
    edges = picture.convert("L").filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1))).filter(ImageFilter.FIND_EDGES)
    edges = edges.point([min(255, value * 5) for value in range(256)])
    edges = ImageOps.expand(edges.crop((2, 2, SIZE - 2, SIZE - 2)), 2)  # the filter copies the border pixels
    return ImageOps.colorize(edges, *inks(rng))


def screen(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Grey tones as a pattern of one ink: halftone or hatching, by comparing with a tiled threshold."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    angle, period = rng.uniform(0, math.pi), rng.uniform(3, 9)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    wave = np.sin(2 * math.pi * u / period)
    if rng.random() < 0.6:
        wave = (wave + np.sin(2 * math.pi * v / period)) / 2
    tone = np.asarray(picture.convert("L"), np.float32) / 127.5 - 1
    ink = np.clip((tone - wave * 0.9) * 3 + 0.5, 0, 1) * 255
    return ImageOps.colorize(Image.fromarray(ink.astype(np.uint8)), *inks(rng))


def turned(picture: Image.Image, rng: random.Random) -> Image.Image:
    """All hues turned by one angle, saturation scaled."""
    hue, saturation, value = picture.convert("HSV").split()
    shift, scale = rng.randrange(256), rng.uniform(0.2, 1.3)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    saturation = saturation.point([min(255, int(level * scale)) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def pixelated(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture in 16 to 64 square cells a side."""
    cells = rng.choice((16, 21, 32, 43, 64))
    return picture.resize((cells, cells), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.NEAREST)


def zoomed(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A part of the picture, enlarged."""
    left, top, side = rng.randint(0, 60), rng.randint(0, 60), rng.randint(40, 68)
    return picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


# The picture by another hand.
HANDS: tuple[Callable[[Image.Image, random.Random], Image.Image], ...] = (
    turned,
    lambda picture, rng: ImageOps.invert(turned(picture, rng)),
    lines,
    screen,
    lambda picture, rng: ImageOps.posterize(picture, rng.randint(1, 3)),
    pixelated,
    lambda picture, rng: ImageOps.colorize(
        picture.convert("L"), random_colour(rng), random_colour(rng), random_colour(rng)
    ),
    lambda picture, rng: picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 3))),
    lambda picture, rng: Image.blend(picture, noise(rng), rng.uniform(0.1, 0.5)),
    lambda picture, rng: ImageChops.multiply(picture, rng.choice((noise, gradient, pattern))(rng)),
    zoomed,
)


def altered(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture by a random other hand."""
    return rng.choice(HANDS)(picture, rng)


def collage(rng: random.Random) -> Image.Image:
    """Four unlike quarters and a cut across them."""
    page = Image.new("RGB", (SIZE, SIZE))
    for corner in range(4):
        page.paste(
            vary(rng, deep=False).resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS),
            (corner % 2 * 64, corner // 2 * 64),
        )
    return page


def vary(rng: random.Random, deep: bool = True) -> Image.Image:
    """Any one picture for the VAE: emoji as they are, emoji by another hand, or none at all."""
    roll = rng.random()
    if roll < 0.3:
        return draw(rng.getrandbits(31))[0]
    if roll < 0.7:
        picture = altered(draw(rng.getrandbits(31))[0], rng)
        return altered(picture, rng) if rng.random() < 0.25 else picture
    if roll < 0.76 and deep:
        return collage(rng)
    return rng.choice((shapes, shapes, shapes, pattern, pattern, noise, gradient))(rng)


def varied(seed: int) -> tuple[Image.Image, str]:
    """As corpus.draw, for the VAE: any one picture, and no caption."""
    return vary(random.Random(seed)), ""
