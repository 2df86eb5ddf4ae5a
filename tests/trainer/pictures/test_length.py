"""Steps, epochs and views of one run, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.config import TrainingSection
from trainer.contract.length import Length
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import Turn
from trainer.pictures.length import length_of, planned_steps

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 64)
TWENTY = [Turn(SQUARE)] * 20


@pytest.mark.parametrize(
    ("given_", "length"),
    [
        ({"views": 60, "batch_size": 4}, Length(300, 60, 60)),
        ({"views": 60, "batch_size": 8}, Length(150, 50, 60)),  # 2.5 batches are filled up to 3
        ({"views": 60, "batch_size": 4, "accumulation": 2}, Length(150, 60, 60)),
        ({"epochs": 10, "batch_size": 4}, Length(50, 10, 10)),
        ({"steps": 100, "batch_size": 2}, Length(100, 10, 10)),
        ({"steps": 1, "batch_size": 4}, Length(1, 0.2, 0.2)),
    ],
)
def test_twenty_pictures_by_hand(given_, length):
    training = TrainingSection(**given_)
    assert planned_steps(training, TWENTY, 20) == length.steps
    found = length_of(length.steps, training, TWENTY, 20)
    assert (found.steps, found.epochs, found.views) == (length.steps, pytest.approx(length.epochs), length.views)


def test_regularisation_and_resolutions_and_repeats_come_on_top():
    both = [*TWENTY, *[Turn(SQUARE, prior=True)] * 40]
    training = TrainingSection(views=10, batch_size=4)
    assert planned_steps(training, both, 20) == 100, "as many of regularisation as of the others"
    assert planned_steps(training, [*TWENTY, *[Turn(WIDE)] * 20], 20) == 50, "a view at either resolution is a view"
    assert planned_steps(training, [*TWENTY[1:], Turn(SQUARE, 3)], 20) == 50, "repeats share the views out"
    assert length_of(100, training, both, 20).views == 10


@given(pictures=st.integers(1, 60), batch=st.integers(1, 16), accumulation=st.integers(1, 4), views=st.integers(1, 200))
def test_a_larger_batch_does_not_lengthen_a_run(pictures, batch, accumulation, views):
    turns = [Turn(SQUARE)] * pictures
    training = TrainingSection(views=views, batch_size=batch, accumulation=accumulation)
    steps = planned_steps(training, turns, pictures)
    shown = steps * batch * accumulation
    assert shown >= views * pictures > shown - batch * accumulation or steps == 1
    assert length_of(steps, training, turns, pictures).views == pytest.approx(shown / pictures)


def test_words():
    assert Length(300, 15, 60).words() == "300 steps = 15 epochs = each picture seen 60 times"
    assert Length(41_667, 12_345.68, 1 / 30).words() == "41667 steps = 12345.7 epochs = each picture seen 0.033 times"
    assert Length(1, 0.2, 0.2).words() == "1 step = 0.2 epochs = each picture seen 0.2 times"
