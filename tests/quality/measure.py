"""Numbers about sets of pictures: how far from a style, how much is in them, whether they are copies.

Pictures are float32 arrays [N, H, W, 3] in 0..1. Same pictures, same numbers: nothing draws from a global generator.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

PATCH, PATCH_SIDE = 5, 64  # patches of 5 x 5 pixels at 64 px: strokes and textures, but no whole things
DIRECTIONS, QUANTILES = 128, 1024
COPY_SIDE, COPY_SHIFT = 32, 2


class Distance(NamedTuple):
    """From one set of pictures to another; 0 is none.

    Attributes:
        style: colours and strokes together.
        strokes: edges and textures alone. A tint changes colours and leaves this.
    """

    style: float
    strokes: float


def stack(pictures: Iterable[Image.Image]) -> np.ndarray:
    """Pictures of one size as one array [N, H, W, 3]."""
    return np.stack([np.asarray(picture.convert("RGB"), np.float32) / 255 for picture in pictures])


def shrunk(pictures: np.ndarray, side: int) -> np.ndarray:
    """[N, H, W, 3] -> [N, side, side, 3] by the mean of each cell, H and W being multiples of side."""
    count, height, width, _ = pictures.shape
    cells = pictures.reshape(count, side, height // side, side, width // side, 3)
    return cells.mean(axis=(2, 4), dtype=np.float32)


def style_distance(pictures: np.ndarray, style: np.ndarray) -> Distance:
    """Sliced Wasserstein distance between the patches of two sets, as sets: no picture has a partner.

    Every patch is projected on fixed random directions, and the sorted projections of the two sets are compared
    (Rabin et al. 2011, https://doi.org/10.1007/978-3-642-24785-9_37; for textures Heitz et al. 2021,
    arXiv 2006.07229). Each direction counts in units of its own spread in the style.
    """
    directions = np.random.default_rng(0).standard_normal((PATCH * PATCH, 3, DIRECTIONS)).astype(np.float32)
    half = DIRECTIONS // 2
    directions[..., half:] -= directions[..., half:].mean(axis=0)  # these see what a patch does, not its colour
    flat = directions.reshape(-1, DIRECTIONS)
    mine, theirs = _quantiles(pictures, flat), _quantiles(style, flat)
    apart = np.abs(mine - theirs).mean(axis=0) / theirs.std(axis=0)
    return Distance(float(apart.mean()), float(apart[half:].mean()))


def _quantiles(pictures: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """[QUANTILES, DIRECTIONS]: the projections of patches in order, thinned to a number any set can have."""
    small = shrunk(pictures, PATCH_SIDE)
    windows = np.lib.stride_tricks.sliding_window_view(small, (PATCH, PATCH), axis=(1, 2))  # [N, h, w, 3, P, P]
    patches = windows[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3).reshape(-1, PATCH * PATCH * 3)
    ordered = np.sort(patches @ directions, axis=0)
    return ordered[((np.arange(QUANTILES) + 0.5) / QUANTILES * len(ordered)).astype(int)]


def content(pictures: np.ndarray) -> float:
    """Mean variance of pixels within a picture: flat squares have none, whatever their colours."""
    return float(pictures.var(axis=(1, 2)).mean())


def copy_distance(pictures: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """[N]: 1 - the best normalised cross-correlation of each picture with any original, moved a little or mirrored.

    0 is a copy, however bright or dull; 1 is nothing in common.
    """
    mine = _normal(shrunk(pictures, COPY_SIDE))
    small = shrunk(originals, COPY_SIDE)
    best = np.full(len(pictures), -1.0)
    reach = range(-COPY_SHIFT, COPY_SHIFT + 1)
    for candidate in (small, small[:, :, ::-1]):
        for down in reach:
            for right in reach:
                theirs = _normal(_moved(candidate, down, right))
                best = np.maximum(best, (mine @ theirs.T).max(axis=1))
    return 1 - best


def _moved(pictures: np.ndarray, down: int, right: int) -> np.ndarray:
    """The pictures moved by whole pixels, their borders drawn out."""
    rows = np.clip(np.arange(pictures.shape[1]) - down, 0, pictures.shape[1] - 1)
    columns = np.clip(np.arange(pictures.shape[2]) - right, 0, pictures.shape[2] - 1)
    return pictures[:, rows][:, :, columns]


def _normal(pictures: np.ndarray) -> np.ndarray:
    """[N, D] of mean 0 and length 1; a flat picture becomes zeros, like nothing at all."""
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    flat = centred.reshape(len(pictures), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)
