"""What the events and the words of a run say about its speed."""

import pytest

from benchmarks.product import Listener, bundle_ends, durations, pace, rung

STEP = 0.02  # seconds


def reported(steps, every=25, late=0.004):
    """Times as the trainer tells them: in bundles, each line at the time of the report, the end at the very last."""
    times, told = {}, 0
    for end in [1, *range(every, steps, every), steps]:
        now = 100 + end * STEP + (0 if end in (1, steps) else late)
        times |= {step: now + 0.0001 * (step - told) for step in range(told + 1, end + 1)}
        told = end
    return times


def test_the_rate_is_taken_between_the_ends_of_bundles():
    found = pace(reported(501), warm=10)
    assert found["rate"] == pytest.approx(1 / STEP, rel=1e-3)
    assert found["window"] == 450
    assert found["spread"] < 0.01


def test_a_step_inside_a_bundle_would_give_a_wrong_rate():
    times = reported(501)
    assert 10 not in bundle_ends(times, warm=10)
    assert abs((501 - 10) / (times[501] - times[10]) * STEP - 1) > 0.02  # what the naive window says


def test_slow_steps_are_told_of_one_by_one():
    times = {step: 50 + 0.7 * step for step in range(1, 41)}
    assert bundle_ends(times, warm=10) == list(range(10, 40))
    assert pace(times, warm=10)["rate"] == pytest.approx(1 / 0.7)


def test_a_halt_in_the_middle_shows_in_the_spread():
    times = {step: now + (5 if step > 250 else 0) for step, now in reported(501).items()}
    assert pace(times, warm=10)["spread"] > 0.5


def test_the_last_step_is_taken_where_there_is_nothing_else():
    times = reported(60, every=30)
    assert bundle_ends(times, warm=10) == [30, 60]


@pytest.mark.parametrize("steps", [0, 3, 10])
def test_too_few_steps_give_no_rate(steps):
    assert pace({step: 1.0 * step for step in range(1, steps + 1)}, warm=10) == {}


def test_phases_are_read_from_torn_pieces_and_add_up_to_the_first_step():
    listener = Listener()
    listener(101.0, b"12:00:01 starting\n12:00:0")
    listener(104.0, b"4 loading the base model\nsome warning\n")
    listener(110.0, b"12:00:10 step 1/40  loss 0.1\n")
    assert listener.phases == [("starting", 101.0), ("loading the base model", 104.0)]
    events = [{"kind": "start", "time": 106.0}, {"kind": "step", "step": 1, "time": 109.0}]
    assert durations(100.0, listener.phases, events) == {
        "interpreter": 1.0,
        "starting": 3.0,
        "loading the base model": 2.0,
        "first step": 3.0,
    }
    drawn = [events[0], {"kind": "sample", "step": 0, "time": 107.5}, events[1]]
    assert durations(100.0, listener.phases, drawn)["first samples"] == 1.5
    assert durations(100.0, listener.phases, drawn)["first step"] == 1.5


def test_the_rung_tells_what_the_engine_chose_and_whether_it_had_to_step_down():
    notices = [{"kind": "notice", "text": "out of GPU memory: going on with half"}, {"kind": "notice", "text": "other"}]
    assert rung({"rung": "full", "base": "int8"}, notices) == "int8 full (1 down)"
    assert rung({"rung": "none", "base": "plain"}, []) == "none"
