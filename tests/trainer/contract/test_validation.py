"""What a curve of losses on held-out pictures is taken to say."""

import pytest

from trainer.contract.validation import Round, lowest, over_fits, round_of, rounds_of, rounds_since_lowest

FALLING = [0.5, 0.45, 0.41, 0.38, 0.36, 0.35, 0.34, 0.33]


def rounds(losses, training):
    return [Round(10 * at, loss, (loss,) * 4, own) for at, (loss, own) in enumerate(zip(losses, training, strict=True))]


@pytest.mark.parametrize(
    ("losses", "training", "begun"),
    [
        ([0.5, 0.4, 0.35, 0.36, 0.37, 0.38, 0.39, 0.40], FALLING, True),
        (FALLING, FALLING, False),
        ([0.5, 0.4, 0.35, 0.36, 0.37, 0.38, 0.39, 0.40], FALLING[::-1], False),  # both rise: it diverges
        ([0.5, 0.4, 0.35, 0.34, 0.342, 0.339, 0.341, 0.339], FALLING, False),  # level
        ([0.5, 0.4, 0.35, 0.36, 0.37, 0.38, 0.39, 0.33], FALLING, False),  # it fell again
    ],
    ids=["rises", "falls", "diverges", "level", "recovers"],
)
def test_over_fitting_is_a_rise_over_several_rounds_while_training_falls(losses, training, begun):
    found = rounds(losses, training)
    assert over_fits(found) is begun
    assert not over_fits(found[:5]) and not over_fits([])


def test_the_lowest_is_the_first_of_equals():
    found = rounds([0.5, 0.4, 0.4, 0.45], [None, 1, 1, 1])
    assert lowest(found) == found[1] and rounds_since_lowest(found) == 2
    assert lowest([]) is None and rounds_since_lowest([]) == 0


def test_rounds_are_read_back_the_last_of_a_step_and_none_of_the_future():
    events = [
        {"kind": "validation", "step": step, "loss": loss, "bands": [loss] * 4, "training": None}
        for step, loss in ((0, 1.0), (10, 0.5), (20, 0.4), (10, 0.6))
    ]
    found = rounds_of([{"kind": "step", "step": 1}, *events], 10)
    assert [(one.step, one.loss) for one in found] == [(0, 1.0), (10, 0.6)]
    with pytest.raises(KeyError):
        round_of({"kind": "validation"})
