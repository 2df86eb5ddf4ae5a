"""Pictures of known things by a known hand, without any model: letters, plain and restyled, to try the measures on."""

import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from presets.demo.make.style import restyle
from tests.quality.measure import stack

SIDE = 128
THINGS, OTHERS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "abdefghkmnpqrty23469"  # 24 asked for, 20 trained on
INKS = ("#e53935", "#fb8c00", "#43a047", "#1e73e8", "#8e24aa", "#26262a")


def drawn(letter: str, seed: int) -> Image.Image:
    """A bold, soft letter on white, in its own colour, a little larger and elsewhere for every seed."""
    rng = random.Random(f"{letter} {seed}")
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    left, top, right, bottom = ImageFont.load_default(100).getbbox(letter, stroke_width=4)
    font = ImageFont.load_default(100 * rng.uniform(88, 104) / max(right - left, bottom - top))
    ink = INKS[(THINGS + OTHERS).index(letter) % len(INKS)]
    left, top, right, bottom = font.getbbox(letter, stroke_width=4)
    at = ((SIDE - left - right) / 2 + rng.uniform(-5, 5), (SIDE - top - bottom) / 2 + rng.uniform(-5, 5))
    ImageDraw.Draw(picture).text(at, letter, ink, font, stroke_width=4, stroke_fill=ink)
    return picture.filter(ImageFilter.GaussianBlur(2))  # soft shading, which the style replaces by hard strokes


def plain(letters: str, seed: int) -> np.ndarray:
    """[N, SIDE, SIDE, 3] in 0..1, one of each letter."""
    return stack(drawn(letter, seed) for letter in letters)


def restyled(letters: str, seed: int) -> np.ndarray:
    """The same by the hand of the demo's style set."""
    return stack(restyle(drawn(letter, seed)) for letter in letters)
