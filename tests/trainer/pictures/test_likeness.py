"""Advice on a strength, from pictures whose answer is known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainer.pictures.likeness import HOW, advise, colours, edges, patches

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def scene(seed: int) -> Image.Image:
    """Soft coloured blobs on grey."""
    draw = np.random.default_rng(seed)
    pixels = np.full((96, 128, 3), 160, np.uint8)
    for _ in range(6):
        x, y = draw.integers(0, 96), draw.integers(0, 64)
        pixels[y : y + 32, x : x + 32] = draw.integers(40, 220, 3)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2))


def hatched(image: Image.Image, share: float) -> Image.Image:
    """The same as a red drawing of strokes; more than 1 is too much of it."""
    pixels = np.asarray(image, float)
    strokes = 90 * np.sin(np.add.outer(np.arange(96), np.arange(128)) * 0.9)[..., None]
    drawn = pixels.mean(axis=2, keepdims=True) * np.array([1.3, 0.7, 0.6]) + strokes
    return Image.fromarray((pixels + share * (drawn - pixels)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("peak", [0.5, 1.0, 1.5])
def test_the_strength_that_looks_like_the_set_is_found(peak):
    taught = [hatched(scene(100 + n), 1.0) for n in range(12)]
    sweep = {strength: [hatched(scene(n), strength / peak) for n in range(6)] for strength in STRENGTHS}
    advice = advise(sweep, taught)
    assert advice.strength is not None and abs(advice.strength - peak) <= 0.25, advice
    shares = list(advice.shares.values())
    assert shares[0] == 0 and advice.shares[advice.strength] > 0.6
    assert f"At {advice.strength:g} the pictures are" in advice.reason and HOW in advice.reason
    if peak < 1:
        assert "leads away again" in advice.reason


def test_an_adapter_that_learned_nothing_gets_no_strength():
    taught = [hatched(scene(100 + n), 1.0) for n in range(12)]
    same = {strength: [scene(n) for n in range(6)] for strength in STRENGTHS}
    assert advise(same, taught).strength is None
    dark = Image.new("RGB", (128, 96), (0, 0, 40))
    away = {strength: [Image.blend(scene(n), dark, strength / 2) for n in range(6)] for strength in STRENGTHS}
    advice = advise(away, taught)
    assert advice.strength is None and "No strength" in advice.reason


def test_each_view_sees_its_own():
    plain = np.full((3, 128, 128), 0.5)
    lines = plain.copy()
    lines[0] += 0.2 * np.sin(np.arange(128) * 1.5)
    tinted = plain.copy()
    tinted[1] += 0.2
    assert not np.allclose(colours(plain), colours(tinted)) and np.allclose(edges(plain), edges(tinted))
    assert not np.allclose(edges(plain), edges(lines)) and not np.allclose(edges(lines), edges(lines.swapaxes(1, 2)))
    finer = plain.copy()
    finer[0] += 0.2 * np.sin(np.arange(128) * 0.75)
    assert np.argmax(patches(lines)[:14]) > np.argmax(patches(finer)[:14])
