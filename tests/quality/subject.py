"""Is the sample subject in the picture? A classifier of two classes, trained on fresh drawings of it."""

import random

import numpy as np

from presets.demo.make.colour import SHADES
from presets.demo.make.subject import Pose, draw
from tests.quality.classify import Classifier, train
from tests.quality.measure import stack

TILES = 4


def drawings(count: int, seed: int) -> np.ndarray:
    """[count, H, W, 3]: the subject in poses and before backgrounds of any kind."""
    rng = random.Random(seed)
    return stack(draw(_pose(rng)) for _ in range(count))


def _pose(rng: random.Random) -> Pose:
    return Pose(
        left_arm=rng.uniform(5, 150), right_arm=rng.uniform(5, 150), stride=rng.uniform(0, 0.12),
        lean=rng.uniform(-16, 16), size=rng.uniform(0.5, 0.88), x=rng.uniform(0.45, 0.55),
        eye=rng.choice(("open", "closed", "left", "right")), mouth=rng.choice(("smile", "open", "flat")),
        background=rng.choice(rng.choice(list(SHADES.values()))),
    )  # fmt: skip


def in_pieces(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Each picture cut in TILES x TILES and shuffled: all of its colours and none of its shape."""
    rng = np.random.default_rng(seed)
    count, side = len(pictures), pictures.shape[1] // TILES
    tiles = pictures.reshape(count, TILES, side, TILES, side, 3).transpose(0, 1, 3, 2, 4, 5)
    tiles = tiles.reshape(count, TILES * TILES, side, side, 3)
    shuffled = np.stack([one[rng.permutation(TILES * TILES)] for one in tiles])
    rows = shuffled.reshape(count, TILES, TILES, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(pictures.shape)


def flat(pictures: np.ndarray) -> np.ndarray:
    """Each picture's mean colour, and nothing else."""
    return np.broadcast_to(pictures.mean(axis=(1, 2), keepdims=True), pictures.shape)


def recoloured(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Each picture with its colour channels changed round, in light of any colour: the same things in violet, too."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(0.3, 1, (len(pictures), 1, 1, 3)).astype(np.float32)
    return np.stack([picture[..., rng.permutation(3)] for picture in pictures]) * light


def detector(others: np.ndarray) -> Classifier:
    """Class 1 is the subject; class 0 the given pictures in any colours, and the subject in pieces or flat."""
    drawn = drawings(144, seed=1)
    changed = [recoloured(others, seed) for seed in (1, 2)]
    absent = np.concatenate([others, *changed, in_pieces(drawn[:72], seed=1), flat(drawn[:36])])
    labels = np.repeat([0, 1], [len(absent), len(drawn)])
    return train(np.concatenate([absent, drawn]), labels)


def share(shown: Classifier, pictures: np.ndarray) -> float:
    """Share of pictures that show the subject."""
    return float((shown.chances(pictures)[:, 1] > 0.5).mean())
