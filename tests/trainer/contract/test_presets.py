"""Every shipped preset is complete, in every length; and what becomes of a file of one's own."""

import pytest

from trainer.contract.catalog import FAMILIES
from trainer.contract.compose import compose, from_toml, to_toml
from trainer.contract.errors import UserError
from trainer.contract.presets import AUTO_RATE, LENGTHS, load_preset, presets, rounded
from trainer.contract.remarks import remarks
from trainer.contract.rules import clashes, idle

SHELVES = sorted({"demo", *(row.shelf for row in FAMILIES.values())})
SHIPPED = [(shelf, name) for shelf in SHELVES for name in presets(shelf)]
SET = {"dataset": {"path": "pictures"}}


def base_of(shelf):
    return {"model": {"base": "demo" if shelf == "demo" else "someone/model"}}


def steps(config, pictures=20):
    return pictures * config.training.views // config.training.batch_size


def test_there_are_presets_for_style_and_subject_on_every_kind_of_base():
    assert SHELVES == ["demo", "sd", "sdxl"]
    assert {(shelf, name) for shelf in SHELVES for name in ("style", "subject")} <= set(SHIPPED)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean style"):
        load_preset("stile", "demo")


@pytest.mark.parametrize(("shelf", "name"), SHIPPED)
def test_a_preset_says_when_and_what_it_takes_and_where_its_numbers_come_from(shelf, name):
    preset = load_preset(name, shelf)
    about = preset.about
    assert about is not None and list(preset.lengths) == list(LENGTHS)
    assert about.when.endswith(".") and len(about.when) > 40
    assert "GiB" in about.memory and about.source.endswith(".")
    assert "benchmarks/RESULTS.md" in about.source
    words = preset.time_words()
    assert all(f"({length})" in words for length in LENGTHS) and about.machine in words


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("shelf", "name"), SHIPPED)
def test_a_preset_composes_in_every_length_and_nothing_is_to_be_said_of_it(shelf, name, length):
    layers = load_preset(name, shelf).layers(length)
    given = {f"{section}.{key}" for layer in layers for section, values in layer.items() for key in values}
    config = compose([*layers, base_of(shelf), SET])
    assert given & set(idle(config)) == set(), "nothing in it is without effect"
    assert clashes(config) == [] and remarks(config, steps(config)) == []
    assert from_toml(to_toml(config)) == config


@pytest.mark.parametrize(("shelf", "name"), SHIPPED)
def test_a_longer_length_is_longer(shelf, name):
    preset = load_preset(name, shelf)
    draft, good, best = (compose([*preset.layers(length), SET]).training.views for length in LENGTHS)
    assert draft * 2 <= good < best
    assert preset.seconds("draft") < preset.seconds("good") < preset.seconds("best")
    assert compose([*preset.layers(), SET]) == compose([*preset.layers("good"), SET])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("shelf", "name"), SHIPPED)
def test_the_rate_can_be_found_in_every_preset_and_length(shelf, name, length):
    config = compose([*load_preset(name, shelf).layers(length), AUTO_RATE, base_of(shelf), SET])
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("prodigy", 1.0)
    assert config.optimizer.lora_plus_ratio == 1 and remarks(config, steps(config)) == []


def test_what_is_set_goes_over_the_length_and_the_length_over_the_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nsteps = 7\nbatch_size = 2\n[lengths]\nbrief = { training.steps = 3 }\n")
    preset = load_preset(str(path), "demo")
    assert compose([*preset.layers(), SET]).training.steps == 7, "no good length: its own"
    brief = compose([*preset.layers("brief"), SET]).training
    assert (brief.steps, brief.batch_size) == (3, 2)
    assert compose([*preset.layers("brief"), SET, {"training": {"epochs": 1}}]).training.steps is None


@pytest.mark.parametrize(
    ("text", "length", "words"),
    [
        ("", "best", ["no length 'best'", "has none", "training.steps"]),
        ("[lengths]\nbrief = { training.steps = 3 }", "best", ["no length 'best'", "Lengths: brief."]),
        ("[lengths]\nbrief = 3", "brief", ["[lengths] is not", "draft = {"]),
        ("lengths = 3", "", ["[lengths] is not"]),
        ("[about]\nwen = 'x'", "", ["about.wen", "about.source", "[about] has: when"]),
    ],
)
def test_a_file_of_ones_own_that_is_wrong_is_told_of(tmp_path, text, length, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_preset(str(path), "demo").layers(length)
    for word in words:
        assert word in f"{caught.value} {caught.value.fix}"


def test_a_run_s_own_config_can_be_a_preset(tmp_path):
    config = compose([*load_preset("style", "demo").layers("best"), SET])
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert compose([*load_preset(str(path), "demo").layers(), SET]) == config


def test_times_are_no_more_precise_than_they_are_known():
    assert [rounded(seconds) for seconds in (3, 33, 54, 64, 100, 220)] == [
        "10 s", "30 s", "50 s", "1 min", "1.5 min", "3.5 min",
    ]  # fmt: skip
