"""What a case on the command line means."""

import pytest

from benchmarks.__main__ import choose, read_arguments
from benchmarks.cases import MODELS, PROFILES, WARM, parse_case
from benchmarks.peers import COMMANDS


def test_words_change_a_case_and_add_up():
    case = parse_case("sd15:4:te:buckets:engine.graph=off")
    assert (case.runner, case.model, case.batch, case.shapes, case.samples) == ("train", "sd15", 4, 6, False)
    assert case.settings == ("adapter.text_encoder=true", "engine.graph=off")
    assert case.plain == "sd15:4"
    assert case.set_size == 4 * 4 * 6
    assert (
        case.warm == WARM + case.set_size // case.batch
    )  # a graph is recorded for every shape before the clock starts


def test_fast_cases_are_measured_over_more_steps():
    slow, fast = parse_case("sdxl:8"), parse_case("sd15:1")
    assert slow.length == WARM + 60
    assert fast.length == WARM + 500
    assert parse_case("sd15:1:cold").length == 500


def test_peers_name_the_model_they_are_compared_on():
    case = parse_case("kohya-best:sdxl:4")
    assert (case.runner, case.plain) == ("kohya-best", "sdxl:4")
    assert case.runner in COMMANDS


@pytest.mark.parametrize("text", ["sd15", "sd16:1", "sd15:many", "sd15:1:buckest", "nothing:sd15:1"])
def test_what_is_no_case_is_refused(text):
    with pytest.raises(ValueError, match=r"is no case|is neither"):
        parse_case(text)


@pytest.mark.parametrize("name", PROFILES)
def test_every_case_of_a_profile_can_be_run(name):
    cases = [parse_case(text) for text in PROFILES[name].cases]
    assert {case.model for case in cases} <= set(MODELS)
    assert {case.runner for case in cases} <= {"train", "atelier-demo", *COMMANDS}
    assert len({case.name for case in cases}) == len(cases)


def chosen(*arguments):
    return choose(read_arguments([*arguments, "--work", "somewhere"]))


def test_a_call_takes_each_case_once_and_the_yardsticks_of_its_profiles():
    cases, yardsticks = chosen("rates", "sd15:1", "buckets", "--only", "sd15:*", "--steps", "70")
    names = [case.name for case in cases]
    assert names.count("sd15:1") == 1
    assert all(name.startswith("sd15:") for name in names)
    assert {case.length for case in cases} == {70}
    assert yardsticks == ["matrix", "ceiling", "peft"]
    assert chosen("sd15:1")[1] == []
    assert chosen("rates", "--yardsticks", "none")[1] == []
    assert chosen("sd15:1", "--yardsticks", "matrix,peft")[1] == ["matrix", "peft"]


def test_a_pattern_that_leaves_nothing_is_told_of():
    with pytest.raises(ValueError, match="no case is left"):
        chosen("rates", "--only", "sd3*")
