"""Schedules against values worked out by hand, and what the page draws of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.catalog import SCHEDULES
from trainer.contract.compose import compose
from trainer.contract.schedules import (
    constant,
    cosine,
    curve,
    linear,
    polynomial,
    restarts,
    schedule_name,
    share,
    warmup_steps,
)


def config(**sections):
    return compose([{"dataset": {"path": "x"}, **sections}], "keep")


def test_shapes():
    assert [cosine(0), cosine(1 / 3), cosine(0.5), cosine(1)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [linear(0), linear(0.25), linear(1)] == pytest.approx([1, 0.75, 0])
    assert constant(0.7) == 1
    assert [polynomial(p, 2.0) for p in (0, 0.5, 0.9, 1)] == pytest.approx([1, 0.25, 0.01, 0])
    assert polynomial(0.75, 0.5) == pytest.approx(0.5)
    assert [restarts(p, 2) for p in (0, 0.25, 0.4999999, 0.5, 0.75, 1)] == pytest.approx([1, 0.5, 0, 1, 0.5, 0])
    assert restarts(0.3, 1) == pytest.approx(cosine(0.3))


def test_warmup():
    asked = [(0.1, 200), (30, 200), (500, 200), (0, 10), (0.5, 1)]
    assert [warmup_steps(*one) for one in asked] == [20, 30, 199, 0, 0]


def test_a_run_of_ten_steps_by_hand():
    at = share(config(schedule={"name": "linear", "warmup": 2, "final": 0.2}), 10)
    # 2 steps up a line that reaches the peak at the third; then 8 steps down from 1 towards 0.2
    falling = [0.2 + 0.8 * (1 - left / 8) for left in range(8)]
    assert [at(step) for step in range(10)] == pytest.approx([1 / 3, 2 / 3, *falling])


def test_options_reach_their_schedule():
    at = share(config(schedule={"name": "restarts", "cycles": 4, "warmup": 0}), 8)
    assert [at(step) for step in range(8)] == pytest.approx([1, 0.5] * 4)
    at = share(config(schedule={"name": "polynomial", "power": 3.0, "warmup": 0}), 2)
    assert [at(0), at(1)] == pytest.approx([1, 0.125])


@pytest.mark.parametrize(
    ("optimizer", "name"), [("adamw", "cosine"), ("prodigy", "cosine"), ("schedulefree", "constant")]
)
def test_auto_is_what_the_optimiser_needs(optimizer, name):
    assert schedule_name(config(optimizer={"name": optimizer})) == name
    assert schedule_name(config(optimizer={"name": optimizer}, schedule={"name": "linear"})) == "linear"


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    warmup=st.floats(0, 50),
    final=st.floats(0, 1),
    cycles=st.integers(1, 9),
    power=st.floats(0.1, 5),
    total=st.integers(1, 300),
)
def test_a_share_is_a_share(name, warmup, final, cycles, power, total):
    options = {"name": name, "warmup": warmup, "final": final, "cycles": cycles, "power": power}
    at = share(config(schedule=options), total)
    values = [at(step) for step in range(total)]
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in values)
    assert max(values) == pytest.approx(1), "the peak is reached"
    assert min(values[warmup_steps(warmup, total) :]) >= final - 1e-12
    drawn = curve(config(schedule=options), total, 50)
    assert len(drawn) <= 50 and drawn[0][0] == 0 and drawn[-1][0] == total - 1
    assert all(value == values[step] for step, value in drawn)
