"""The measures, tried on pictures of which one knows what should come out, without any model.

A sweep that earns the verdict gets it; flat squares, copies, a tint, one picture for all and the untouched base do not.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.quality.cheats import CHEATS, Cheat, copies, fading, flat_squares
from tests.quality.classify import train
from tests.quality.judge import Evidence, judge_style
from tests.quality.measure import content, copy_distance, style_distance
from tests.quality.synthetic import OTHERS, THINGS, plain, restyled

SEEN, FRESH = range(1, 5), 9  # seeds the classifier learns from, and the one it is asked about


@pytest.fixture(scope="module")
def honest() -> Evidence:
    """Base pictures that fade into what the script makes of them: a style learnt perfectly."""
    labels = np.arange(len(THINGS))
    shown = [kind(THINGS, seed) for kind in (plain, restyled) for seed in SEEN]
    classifier = train(np.concatenate(shown), np.tile(labels, len(shown)), steps=150)
    base, goal = plain(THINGS, FRESH), restyled(THINGS, FRESH)
    return Evidence(fading(base, goal), labels, restyled(OTHERS, FRESH), goal, classifier)


def test_a_style_learnt_perfectly_passes(honest):
    assert not judge_style(honest).shortfalls()


@pytest.mark.parametrize(("cheat", "found"), CHEATS)
def test_what_is_not_the_style_does_not_pass(honest, cheat: Cheat, found: set[str]):
    figures = judge_style(replace(honest, sweep=fading(honest.sweep[0.0], cheat(honest))))
    assert found <= set(figures.shortfalls()), str(figures)


def test_a_strength_that_jumps_back_is_seen(honest):
    jumping = {**honest.sweep, 0.75: honest.sweep[0.25]}
    assert set(judge_style(replace(honest, sweep=jumping)).shortfalls()) == {"falling"}


def test_a_classifier_that_knows_nothing_gives_no_verdict(honest):
    shuffled = np.random.default_rng(0).permutation(honest.labels)
    assert "classifier" in judge_style(replace(honest, labels=shuffled)).shortfalls()


def test_distances_are_of_sets(honest):
    backwards = honest.restyled[::-1]
    assert style_distance(backwards, honest.training) == style_distance(honest.restyled, honest.training)
    assert style_distance(honest.training, honest.training) == (0, 0)


def test_copies_are_near_and_other_things_are_not(honest):
    assert copy_distance(copies(honest), honest.training).max() < 0.05
    assert copy_distance(honest.restyled, honest.training).min() > 0.1
    assert copy_distance(flat_squares(honest), honest.training).min() > 0.99, "a flat square is no copy of anything"


def test_flat_squares_have_no_content(honest):
    assert content(flat_squares(honest)) < 1e-6 < content(honest.training)
