"""Learning rates of parts and groups; what contradicts, what is hardly meant, what a preset's rate becomes."""

import importlib.util

import pytest

from trainer.contract.catalog import OPTIMIZERS, check_package, optimizer_row
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rates import part_rate, peak_rates, rate_warnings

GROUPS = ["text_encoder.A", "text_encoder.B", "text_encoder_2.A", "unet.A", "unet.B"]


def config(*layers, **sections):
    return compose([{"dataset": {"path": "x"}}, *layers, sections])


def test_every_part_has_its_rate_and_lora_plus_multiplies_b():
    options = {"learning_rate": 1e-3, "text_encoder_2_learning_rate": 7e-5, "lora_plus_ratio": 4}
    assert peak_rates(config(optimizer=options), GROUPS) == pytest.approx(
        {"text_encoder.A": 5e-4, "text_encoder.B": 2e-3, "text_encoder_2.A": 7e-5, "unet.A": 1e-3, "unet.B": 4e-3}
    )
    options["text_encoder_learning_rate"] = 3e-5
    assert peak_rates(config(optimizer=options), ["text_encoder.A"]) == pytest.approx({"text_encoder.A": 3e-5})


def test_the_second_text_encoder_follows_the_first():
    found = config(optimizer={"text_encoder_learning_rate": 3e-5})
    assert part_rate(found, "text_encoder_2") == part_rate(found, "text_encoder") == 3e-5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_auto_is_the_row_s_rate_and_is_not_warned_of(name):
    found = config(optimizer={"name": name})
    assert part_rate(found, "unet") == OPTIMIZERS[name].rate
    assert rate_warnings(found) == []
    low, high = OPTIMIZERS[name].sensible
    for rate, word in ((low / 2, "next to nothing"), (high * 2, "destroy")):
        (said,) = rate_warnings(config(model={"base": "x/y"}, optimizer={"name": name, "learning_rate": rate}))
        assert word in said and "auto takes" in said


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"optimizer": {"name": "prodigy", "lora_plus_ratio": 16}}, ["LoRA+", "Prodigy"]),
        (
            {
                "optimizer": {"name": "prodigy", "text_encoder_learning_rate": 0.5},
                "adapter": {"text_encoder": True},
            },
            ["text_encoder_learning_rate", "auto"],
        ),
        ({"optimizer": {"name": "schedulefree"}, "training": {"ema": 0.99}}, ["training.ema", "average"]),
        ({"optimizer": {"arguments": "d_coef=2"}}, ["name = value"]),
        ({"optimizer": {"name": "adamw8"}}, ["adamw8bit", "dotted"]),
        ({"optimizer": {"name": ".x"}}, ["not known"]),
    ],
)
def test_contradictions_are_refused(sections, words):
    with pytest.raises(UserError) as caught:
        config(**sections)
    for word in words:
        assert word in str(caught.value)


def test_a_rate_counts_with_alpha_and_rank_and_the_practice_base_takes_more():
    sd, options = {"base": "x/y"}, {"learning_rate": 4e-3}
    (said,) = rate_warnings(config(model=sd, optimizer=options))
    assert "destroy" in said and "0.001" in said
    assert rate_warnings(config(model=sd, optimizer=options, adapter={"rank": 16, "alpha": 4})) == []
    assert rate_warnings(config(model={"base": "demo"}, optimizer=options)) == []
    (said,) = rate_warnings(config(model=sd, adapter={"rank": 64, "alpha": 1}))
    assert "next to nothing" in said
    assert rate_warnings(config(model=sd, optimizer={"name": "prodigy"}, adapter={"rank": 64, "alpha": 1})) == []


def test_rows_say_which_settings_they_read():
    assert OPTIMIZERS["adamw"].reads == tuple(
        f"optimizer.{name}" for name in ("beta1", "beta2", "epsilon", "weight_decay")
    )
    assert OPTIMIZERS["sgd"].reads == ("optimizer.beta1", "optimizer.weight_decay")
    assert optimizer_row("torch.optim.NAdam").reads == ()


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        ({"training": {"ema": 0.99}}, "export.ema"),
        ({"export": {"ema": True}}, "training.ema"),
        ({"adapter": {"text_encoder_until": "50%"}}, "text_encoder"),
        ({"optimizer": {"name": "schedulefree"}, "schedule": {"name": "cosine"}}, "schedule.name"),
        ({"optimizer": {"learning_rate": 2e-3, "lora_plus_ratio": 16}, "model": {"base": "demo"}}, "lora_plus_ratio"),
    ],
)
def test_what_is_hardly_meant_is_said(sections, word):
    (said,) = rate_warnings(config(**sections))
    assert word in said


def test_a_preset_s_rate_is_translated_for_another_optimiser():
    preset = {"optimizer": {"learning_rate": 2e-3, "text_encoder_learning_rate": 1e-3}}
    lion = config(preset, optimizer={"name": "lion"}).optimizer
    assert (lion.learning_rate, lion.text_encoder_learning_rate) == (6e-4, 3e-4)
    assert config(preset, optimizer={"name": "prodigy"}).optimizer.learning_rate == "auto"
    assert config(preset, optimizer={"name": "torch.optim.NAdam"}).optimizer.learning_rate == 2e-3
    assert config(preset, optimizer={"name": "lion", "learning_rate": 1e-5}).optimizer.learning_rate == 1e-5
    assert config(preset, optimizer={"name": "adamw"}).optimizer.learning_rate == 2e-3


def test_a_missing_package_is_said_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        check_package(optimizer_row("came"))
    assert "python -m pip install pytorch-optimizer" in caught.value.fix
    with pytest.raises(UserError, match="nowhere"):
        check_package(optimizer_row("nowhere.to.BeFound"))
