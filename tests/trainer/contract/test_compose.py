"""Layers to one config, and what people are told when they misspell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.compose import compose, from_toml, parse_assignments, setting_names, to_toml
from trainer.contract.config import SPELT, RunConfig, interval
from trainer.contract.errors import UserError
from trainer.contract.known_as import KNOWN_AS

BASE = {"dataset": {"path": "pictures"}}


def test_later_layers_win():
    config = compose([BASE, {"adapter": {"rank": 4}}, {"adapter": {"rank": 8}}])
    assert config.adapter.rank == 8
    assert config.adapter.alpha_value == 8


@pytest.mark.parametrize(("earlier", "later"), [("views", "steps"), ("steps", "epochs"), ("epochs", "views")])
def test_a_length_in_a_later_layer_replaces_the_other_lengths(earlier, later):
    training = compose([BASE, {"training": {earlier: 3}}, {"training": {later: 5}}]).training
    assert (getattr(training, earlier), getattr(training, later)) == (None, 5)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["adapter.rnak=3"], ["adapter.rnak", "adapter.rank"]),
        (["adapter.rank=0"], ["adapter.rank", "1", "0"]),
        (["training.step=3"], ["training.steps"]),
        (["training.steps=1", "training.views=2"], ["exactly one", "steps, views"]),
        (["optimizer.name=adamm"], ["adamm", "adamw"]),
        (["schedule.name=cosin"], ["cosin", "cosine"]),
        (["adaptor.rank=3"], ["adaptor"]),
        (["rank=3"], ["section.key=value"]),
        (["network_dim=3"], ["section.key=value", "adapter.rank"]),
        (["objective.min_snr_gamma=5"], ["no such setting", "it is objective.snr_gamma here"]),
        (["objective.debiased_estimation_loss=true"], ["it is objective.weighting=debiased here"]),
        (["adapter.rank"], ["section.key=value"]),
        (["training.save_every=sometimes"], ["training.save_every: should be steps (500)", "or never", "sometimes"]),
        *(([f"training.save_every={none}"], ["or never", f"given: {none!r}"]) for none in ("00", "0%", "0.0ep")),
        (["adapter.targets=all"], ["targets: should be 'query+value'", ", or should be paths", "(given: 'all')"]),
        (["sampling.prompts=cat"], ['should be a list, such as ["one", "another"] (given: \'cat\')']),
        (["optimizer.learning_rate=high"], ["should be a valid number, or should be 'auto' (given: 'high')"]),
        (["objective.weighting=debiased", "objective.snr_gamma=5"], ["objective.snr_gamma", "weighting=debiased"]),
    ],
)
def test_a_mistake_is_named_with_what_is_right(assignments, words):
    with pytest.raises(UserError) as caught:
        compose([BASE, parse_assignments(assignments)])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("layer", [{"steps": 1, "views": 2}, {"epochs": 1, "steps": 2}])
def test_two_lengths_in_one_layer_are_refused_whatever_a_later_layer_says(layer):
    with pytest.raises(UserError, match="exactly one of steps, epochs, views"):
        compose([BASE, {"training": layer}, {"training": {"epochs": 3}}])


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([{"snr_gamma": 5.0}], ("min_snr", 5.0)),
        ([{"snr_gamma": "off"}], ("none", 5.0)),
        ([{"snr_gamma": 5.0}, {"snr_gamma": "off"}], ("none", 5.0)),
        ([{"weighting": "soft_min_snr"}, {"snr_gamma": 3}], ("soft_min_snr", 3.0)),
        ([{"snr_gamma": 3.0}, {"weighting": "debiased"}], ("debiased", 5.0)),
        ([{"snr_gamma": 3.0}, {"weighting": "soft_min_snr"}], ("soft_min_snr", 3.0)),
    ],
)
def test_snr_gamma_alone_means_min_snr_as_in_older_files(layers, found):
    objective = compose([BASE, *({"objective": layer} for layer in layers)]).objective
    assert (objective.weighting, objective.snr_gamma) == found


@pytest.mark.parametrize(("gamma", "weighting"), [("5.0", "min_snr"), ('"off"', "none")])
def test_a_run_from_before_there_was_a_choice_of_weighting_goes_on_as_it_was(gamma, weighting):
    text = f'[dataset]\npath = "x"\n[training]\nsteps = 3\n[objective]\nsnr_gamma = {gamma}\nnoise_offset = 0.0\n'
    assert from_toml(text).objective.weighting == weighting


def test_what_settings_are_called_elsewhere_leads_to_settings_that_there_are():
    assert {known.partition("=")[0] for known in KNOWN_AS.values()} <= set(setting_names())
    compose([BASE, *(parse_assignments([known]) for known in KNOWN_AS.values() if "=" in known)])


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(UserError) as caught:
        compose([BASE, parse_assignments(["adapter.rank=0", "adapter.rnak=3", "training.batch_size=many"])])
    for word in ("adapter.rank:", "adapter.rnak:", "training.batch_size:"):
        assert word in str(caught.value)


@given(
    rank=st.integers(1, 512),
    rate=st.floats(1e-8, 10),
    steps=st.integers(1, 10**6),
    trigger=st.text(max_size=20),
    prompts=st.lists(st.text(max_size=30), max_size=3),
)
def test_toml_gives_back_the_same_config(rank, rate, steps, trigger, prompts):
    layer = {
        "dataset": {"path": "p", "trigger": trigger},
        "adapter": {"rank": rank},
        "optimizer": {"learning_rate": rate},
        "training": {"steps": steps},
        "sampling": {"prompts": prompts},
    }
    config = compose([layer])
    assert from_toml(to_toml(config)) == config


def test_setting_names_hold_the_documented_surface():
    promised = {
        "model.base",
        "dataset.path",
        "dataset.resolution",
        "adapter.method",
        "adapter.rank",
        "adapter.alpha",
        "adapter.dropout",
        "adapter.targets",
        "adapter.text_encoder",
        "optimizer.name",
        "optimizer.learning_rate",
        "schedule.name",
        "training.steps",
        "training.epochs",
        "training.views",
        "training.batch_size",
        "training.seed",
        "training.save_every",
    }
    assert promised <= set(setting_names())


def test_every_pattern_of_a_setting_has_words_for_people():
    def patterns(part):
        if isinstance(part, dict):
            yield from [part["pattern"]] if isinstance(part.get("pattern"), str) else []
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from patterns(inner)

    assert set(patterns(RunConfig.model_json_schema())) == set(SPELT)


@pytest.mark.parametrize(
    ("every", "steps"), [("500", 500), ("20%", 60), ("2ep", 10), ("0.5ep", 2), ("never", None), ("0.01%", 1)]
)
def test_intervals(every, steps):
    assert interval(every, total_steps=300, steps_per_epoch=5) == steps


def test_a_setting_that_is_given_twice_is_no_choice():
    with pytest.raises(UserError, match="set twice, to 'min_snr' and to 'debiased'"):
        parse_assignments(["objective.weighting=min_snr", "objective.weighting=debiased"])
    assert parse_assignments(["training.steps=5", "training.steps=5"]) == {"training": {"steps": 5}}


@pytest.mark.parametrize("setting", ["schedule.warmup", "training.epochs", "adapter.alpha", "optimizer.clip_norm"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_numbers_are_finite(setting, value):
    with pytest.raises(UserError, match=setting):
        compose([{"dataset": {"path": "x"}}, parse_assignments([f"{setting}={value}"])])
