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
        (said,) = rate_warnings(config(optimizer={"name": name, "learning_rate": rate}))
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


def test_what_is_taken_is_not_warned_of():
    assert rate_warnings(config(optimizer={"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6, "weight_decay": 0.1})) == []
    assert (
        rate_warnings(config(optimizer={"name": "sgd", "beta1": 0.8}, schedule={"name": "restarts", "cycles": 2})) == []
    )


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        ({"training": {"ema": 0.99}}, "export.ema"),
        ({"export": {"ema": True}}, "training.ema"),
        ({"adapter": {"text_encoder_until": "50%"}}, "text_encoder"),
        ({"optimizer": {"name": "schedulefree"}, "schedule": {"name": "cosine"}}, "schedule.name"),
        ({"optimizer": {"name": "sgd", "beta2": 0.95}}, "optimizer.beta2 has no effect with SGD"),
        ({"optimizer": {"name": "torch.optim.NAdam", "weight_decay": 0.1}}, "weight_decay has no effect with NAdam"),
        ({"schedule": {"cycles": 5}}, "schedule.cycles has no effect with Cosine"),
        ({"schedule": {"name": "restarts", "power": 3.0}}, "schedule.power has no effect"),
        ({"optimizer": {"learning_rate": 2e-3, "lora_plus_ratio": 16}}, "lora_plus_ratio"),
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
