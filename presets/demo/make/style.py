"""A drawing style of our own: a block print of two inks on cream paper, one of them a little out of register.

Pure picture to picture, so that a test can restyle anything. Strokes are at least three pixels wide at 128 px: finer
ones would not survive a VAE of factor 8.
"""

import numpy as np
from PIL import Image, ImageFilter

from presets.demo.make.colour import rgb, to_oklab

PAPER, INDIGO, VERMILION = "#f5e9cc", "#22285e", "#ee5a36"
HATCH_PERIOD = 9.0  # pixels between strokes
MISREGISTRATION = (2, -2)  # pixels down and across: the second ink of a hand print never sits exactly


def smooth(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask (h, w) in 0..1 with its corners rounded, as a knife leaves them, and an edge one pixel soft."""
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.clip((np.asarray(blurred, np.float32) / 255 - 0.5) * 2.5 + 0.5, 0, 1)


def outlines(lab: np.ndarray) -> np.ndarray:
    """Where colours meet, (h, w) in 0..1, as strokes about three pixels wide."""
    across, down = np.gradient(lab, axis=(0, 1))
    step = np.sqrt((across**2 + down**2).sum(-1))
    mask = Image.fromarray(((step > 0.055) * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
    return smooth(np.asarray(mask, np.float32) / 255, 0.9)


def hatching(height: int, width: int) -> np.ndarray:
    """Diagonal strokes, (h, w) in 0..1, a little under half of them ink."""
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin(2 * np.pi * (x + y) / (HATCH_PERIOD * np.sqrt(2)))
    return np.clip(wave * 2.2 + 0.3, 0, 1)


def restyle(image: Image.Image) -> Image.Image:
    """The picture as a block print: RGB of the same size."""
    plain = image.convert("RGB").filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.GaussianBlur(0.7))
    lab = to_oklab(np.asarray(plain, np.float32) / 255)
    light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    warm = np.cos(np.arctan2(lab[..., 2], lab[..., 1]) - 0.9) > 0.1  # reds to yellows
    hatch = hatching(*light.shape)
    colour = (chroma > 0.05) & (light > 0.35)
    accent = smooth(colour & warm, 1.2) + smooth(colour & ~warm, 1.2) * hatch
    accent = np.roll(np.clip(accent, 0, 1), MISREGISTRATION, (0, 1))
    dark = smooth(light < 0.42, 1.0) + smooth((light < 0.6) & (chroma <= 0.2), 1.0) * hatch[:, ::-1]
    ink = np.clip(np.maximum(dark, outlines(lab)), 0, 1)
    page = np.broadcast_to(rgb(PAPER), (*light.shape, 3))
    for amount, colour_name in ((accent, VERMILION), (ink, INDIGO)):
        page = page + amount[..., None] * (rgb(colour_name) - page)
    return Image.fromarray((page * 255).round().astype(np.uint8))
