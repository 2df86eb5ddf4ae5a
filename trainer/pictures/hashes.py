"""Pictures that look the same: perceptual hashes, compared all with all.

The hash is pHash: the signs of the 64 lowest frequencies of a small grey picture against their median (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions"). The `ImageHash` package has it as well and brings
SciPy and PyWavelets with it, for these few lines.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32  # pixels of the grey picture
FREQUENCIES = 8  # of a side
# Found on emoji faces, drawings and noise: pictures made smaller, larger, brighter or stored badly differ in at most 4
# to 8 bits and keep a correlation of 0.98; of 2016 pairs of different yellow faces 5 come nearer than this.
MOST_BITS = 8
LEAST_CORRELATION = 0.97
_ROWS = 512  # compared at once: 10 000 pictures need 20 MB

Floats = npt.NDArray[np.float32]
_COSINES = np.cos(np.pi * (2 * np.arange(SIDE) + 1) * np.arange(FREQUENCIES)[:, None] / (2 * SIDE)).astype(np.float32)


class Alike(NamedTuple):
    """Pictures that look the same.

    Attributes:
        groups: places of those that hang together, each in order, by the first of each.
        mirrored: those of them that are alike only with left and right exchanged.
    """

    groups: list[list[int]]
    mirrored: set[int]


def shrink(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The grey picture that all comparisons are made on, [32, 32]."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def find_alike(greys: npt.NDArray[np.uint8]) -> Alike:
    """Find pictures that are the same but for their size, storage, brightness, a narrow crop, or left and right.

    The hashes find them, and the correlation of 16 by 16 grey cells has to agree. Pictures of one colour have no
    likeness.

    Args:
        greys: from `shrink`, [n, 32, 32].
    """
    label, straight = np.arange(len(greys)), np.zeros(len(greys), dtype=bool)
    signs, cells = _signs(greys), _cells(greys)
    for others, alike in ((greys, straight), (greys[:, :, ::-1], np.zeros_like(straight))):
        other_signs, other_cells = _signs(others), _cells(others)
        for top in range(0, len(greys), _ROWS):
            rows = slice(top, top + _ROWS)
            near = signs[rows] @ other_signs.T >= FREQUENCIES**2 - 2 * MOST_BITS
            near &= cells[rows] @ other_cells.T >= LEAST_CORRELATION
            near[np.arange(len(near)), np.arange(top, top + len(near))] = False  # each with itself
            alike[rows] = near.any(axis=1)
            for place in np.flatnonzero(alike[rows]):
                met = np.unique(label[near[place]])
                if met.tolist() != [label[top + place]]:
                    met = np.union1d(met, label[top + place])
                    label[np.isin(label, met)] = met[0]
    groups = [np.flatnonzero(label == first).tolist() for first in np.flatnonzero(np.bincount(label) > 1)]
    return Alike(groups, {place for group in groups for place in group if not straight[place]})


def _signs(greys: npt.NDArray[np.uint8]) -> Floats:
    """Hashes as -1 and 1, [n, 64]: the product of two is 64 less twice the bits that differ."""
    values = (_COSINES @ greys.astype(np.float32) @ _COSINES.T).reshape(-1, FREQUENCIES**2)
    middle = np.median(values[:, 1:], axis=1, keepdims=True)  # without the mean brightness
    return np.where(values > middle, np.float32(1), np.float32(-1))


def _cells(greys: npt.NDArray[np.uint8]) -> Floats:
    """16 by 16 grey cells about their mean, [n, 256] of length 1; zeros where all are alike."""
    half = SIDE // 2
    cells = greys.reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype=np.float32).reshape(-1, half * half)
    apart = cells - cells.mean(axis=1, keepdims=True)
    length_one: Floats = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), np.float32(1e-3))
    return length_one
