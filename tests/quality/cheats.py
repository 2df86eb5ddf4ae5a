"""Pictures that did not learn the style but might fool a measure, and the measures that must see it."""

from collections.abc import Callable

import numpy as np

from tests.quality.judge import STRENGTHS, Evidence

Cheat = Callable[[Evidence], np.ndarray]


def fading(base: np.ndarray, goal: np.ndarray) -> dict[float, np.ndarray]:
    """A sweep from one set of pictures to another, as a fade."""
    return {strength: ((1 - strength) * base + strength * goal).astype(np.float32) for strength in STRENGTHS}


def flat_squares(evidence: Evidence) -> np.ndarray:
    """Squares in the very colours of the style set."""
    colours = evidence.training.mean(axis=(1, 2), keepdims=True)[
        np.arange(len(evidence.labels)) % len(evidence.training)
    ]
    return np.broadcast_to(colours, evidence.restyled.shape)


def copies(evidence: Evidence) -> np.ndarray:
    """Training pictures, mirrored, moved and grainy."""
    chosen = evidence.training[np.arange(len(evidence.labels)) % len(evidence.training)]
    grain = np.random.default_rng(0).normal(0, 0.05, chosen.shape)
    return np.clip(np.roll(chosen[:, :, ::-1], (4, -4), (1, 2)) + grain, 0, 1).astype(np.float32)


def one_copy(evidence: Evidence) -> np.ndarray:
    """Perfect, but for one picture that is a training picture."""
    return np.concatenate([copies(evidence)[:1], evidence.restyled[1:]])


def one_for_all(evidence: Evidence) -> np.ndarray:
    """The same restyled thing, whatever was asked for."""
    return np.roll(evidence.restyled, 1, axis=0)[np.zeros_like(evidence.labels)]


def tint(evidence: Evidence) -> np.ndarray:
    """The base's pictures on the style's paper, with its colours' mean and spread."""
    base, style = evidence.sweep[0.0], evidence.training
    axes = (0, 1, 2)
    moved = (base - base.mean(axes)) / base.std(axes) * style.std(axes) + style.mean(axes)
    return np.clip(moved, 0, 1).astype(np.float32)


def untouched(evidence: Evidence) -> np.ndarray:
    """The base's pictures, as if nothing had been trained."""
    return evidence.sweep[0.0]


CHEATS: tuple[tuple[Cheat, set[str]], ...] = (
    (flat_squares, {"distance", "strokes", "named", "content"}),
    (copies, {"named", "copies"}),
    (one_copy, {"copies"}),
    (one_for_all, {"named"}),
    (tint, {"strokes"}),
    (untouched, {"falling", "distance", "strokes"}),
)
