"""A drawing style of our own: a block print of three inks on cream paper, none of them quite in register.

Pure picture to picture, so that a test can restyle anything. Strokes are at least three pixels wide at 128 px: finer
ones would not survive a VAE of factor 8.
"""

import numpy as np
from PIL import Image, ImageFilter

from presets.demo.make.colour import rgb, to_oklab

PAPER, INDIGO, VERMILION, TEAL = "#f3e3bd", "#23265c", "#ef5233", "#2a9d96"
HATCH_PERIOD = 8.0  # pixels between strokes
OUT_OF_REGISTER = (2, -2)  # pixels down and across: a second ink of a hand print never sits exactly
WARM_HUE = 0.45  # radians in OKLab, a red; within 90 degrees of it, pink to yellow, colours are warm


def smooth(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask (h, w) with its corners rounded, as a knife leaves them, and an edge one pixel soft; 0..1."""
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.clip((np.asarray(blurred, np.float32) / 255 - 0.5) * 2.5 + 0.5, 0, 1)


def outlines(lab: np.ndarray) -> np.ndarray:
    """Where colours of OKLab (h, w, 3) meet, as strokes about three pixels wide; (h, w) in 0..1."""
    down, across = np.gradient(lab, axis=(0, 1))
    step = np.sqrt((across**2 + down**2).sum(-1))
    return smooth(step > 0.05, 0.8)


def hatching(height: int, width: int) -> np.ndarray:
    """Diagonal strokes, (h, w) in 0..1, half of them ink."""
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(np.sin(2 * np.pi * (x + y) / (HATCH_PERIOD * np.sqrt(2))) * 2 + 0.5, 0, 1)


def restyle(image: Image.Image) -> Image.Image:
    """The picture as a block print: RGB of the same size."""
    plain = image.convert("RGB").filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.GaussianBlur(0.8))
    lab = to_oklab(np.asarray(plain, np.float32) / 255)
    light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    warm = np.cos(np.arctan2(lab[..., 2], lab[..., 1]) - WARM_HUE) > 0
    coloured = (chroma > 0.045) & (light > 0.38)
    strength = np.where(light > 0.76, 0.5, 1.0)  # light colours are printed as a tint
    hatched = smooth((light > 0.38) & (light < 0.75) & ~coloured, 1.0) * hatching(*light.shape)
    key = np.maximum.reduce([smooth(light <= 0.38, 1.0), outlines(lab), hatched])
    page = np.broadcast_to(rgb(PAPER), lab.shape)
    for amount, ink in ((coloured & warm, VERMILION), (coloured & ~warm, TEAL)):
        printed = np.roll(smooth(amount, 1.2) * strength, OUT_OF_REGISTER, (0, 1))[..., None]
        page = page + printed * (rgb(ink) - page)
    page = page + key[..., None] * (rgb(INDIGO) - page)
    return Image.fromarray((page * 255).round().astype(np.uint8))
