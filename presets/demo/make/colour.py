"""Named colours, and recolouring in OKLab.

OKLab (Ottosson, 2020, https://bottosson.github.io/posts/oklab/) keeps lightness apart from hue: a turned hue keeps
its shading.
"""

import numpy as np
from PIL import Image, ImageColor

# Several shades of each, so that a colour word means a family and not one value. Things are recoloured to the first.
SHADES = {
    "red": ("#e53935", "#d32f2f", "#ef5350"),
    "orange": ("#fb8c00", "#ff9800", "#f57c00"),
    "yellow": ("#fdd835", "#ffeb3b", "#ffe066"),
    "green": ("#43a047", "#4caf50", "#66bb6a"),
    "teal": ("#009688", "#00a99d", "#26a69a"),
    "blue": ("#1e73e8", "#2196f3", "#3b82f6"),
    "purple": ("#8e24aa", "#7e3ff2", "#9c4dcc"),
    "pink": ("#ec5fa4", "#f48fb1", "#f8a5c2"),
    "brown": ("#7a4a2b", "#8d5a3a", "#6d4c41"),
    "grey": ("#8f959b", "#9e9e9e", "#b0b4b8"),
    "black": ("#26262a", "#101012", "#1c1c22"),
    "white": ("#f4f4f2", "#ffffff", "#ffffff"),
}
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def rgb(colour: str) -> np.ndarray:
    """A CSS colour as (3,) floats in 0..1."""
    return np.array(ImageColor.getrgb(colour)[:3], np.float32) / 255


def to_oklab(pixels: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..1 -> OKLab (..., 3)."""
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """OKLab (..., 3) -> sRGB (..., 3), clipped to 0..1."""
    linear = np.clip((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def main_hue(lab: np.ndarray, alpha: np.ndarray) -> float | None:
    """The hue (radians) most of the colour has; None where a picture has little colour. lab (h, w, 3), alpha (h, w)."""
    chroma = np.hypot(lab[..., 1], lab[..., 2]) * alpha
    if chroma.sum() < 0.04 * alpha.sum():
        return None
    hue = np.arctan2(lab[..., 2], lab[..., 1])
    counts, edges = np.histogram(hue, bins=24, range=(-np.pi, np.pi), weights=chroma)
    smooth = counts + 0.5 * (np.roll(counts, 1) + np.roll(counts, -1))  # hues are a circle
    best = int(smooth.argmax())
    return float((edges[best] + edges[best + 1]) / 2)


def recolour(picture: Image.Image, name: str) -> Image.Image | None:
    """An RGBA picture with its main colour turned into the named one; None where it has no main colour to turn.

    Pixels near the main hue follow it (their lightness and chroma move as the mean's do, so shading stays); other hues
    and greys are left alone: a blue apple keeps its green leaf.
    """
    pixels = np.asarray(picture, np.float32) / 255
    lab, alpha = to_oklab(pixels[..., :3]), pixels[..., 3]
    if (hue := main_hue(lab, alpha)) is None:
        return None
    light, a, b = np.moveaxis(lab, -1, 0)
    chroma = np.hypot(a, b)
    away = np.abs((np.arctan2(b, a) - hue + np.pi) % (2 * np.pi) - np.pi)  # 0..pi from the main hue
    weight = np.clip((1.15 - away) / 0.3, 0, 1) * np.clip((chroma - 0.02) / 0.03, 0, 1)
    share = weight * alpha
    if share.sum() < 0.2 * alpha.sum():
        return None
    mean_light, mean_chroma = ((x * share).sum() / share.sum() for x in (light, chroma))
    want = to_oklab(rgb(SHADES[name][0]))
    scale = np.clip(chroma / mean_chroma, 0.4, 1.3)
    contrast = 0.6 if name in ("black", "white") else 0.85
    new = np.stack([want[0] + (light - mean_light) * contrast, want[1] * scale, want[2] * scale], -1)
    mixed = from_oklab(lab + weight[..., None] * (new - lab))
    return Image.fromarray(np.dstack([mixed * 255, pixels[..., 3] * 255]).round().astype(np.uint8), "RGBA")
