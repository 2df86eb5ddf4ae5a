"""Learning rates of parts and groups; what contradicts, what is hardly meant, what a preset's rate becomes."""

import importlib.util

import pytest

from trainer.contract.catalog import OPTIMIZERS, check_package, optimizer_row
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rates import part_rate, peak_rates
from trainer.contract.remarks import remarks

GROUPS = ["text_encoder.A", "text_encoder.B", "text_encoder_2.A", "unet.A", "unet.B"]
TEXT = {"adapter": {"text_encoder": True}}


def config(*layers, **sections):
    return compose([{"dataset": {"path": "x"}, "model": {"base": "someone/sd"}}, *layers, sections])


def test_every_part_has_its_rate_and_lora_plus_multiplies_b():
    options = {"learning_rate": 1e-3, "text_encoder_2_learning_rate": 7e-5, "lora_plus_ratio": 4}
    assert peak_rates(config(TEXT, optimizer=options), GROUPS) == pytest.approx(
        {"text_encoder.A": 5e-4, "text_encoder.B": 2e-3, "text_encoder_2.A": 7e-5, "unet.A": 1e-3, "unet.B": 4e-3}
    )
    options["text_encoder_learning_rate"] = 3e-5
    assert peak_rates(config(TEXT, optimizer=options), ["text_encoder.A"]) == pytest.approx({"text_encoder.A": 3e-5})


def test_the_second_text_encoder_follows_the_first():
    found = config(TEXT, optimizer={"text_encoder_learning_rate": 3e-5})
    assert part_rate(found, "text_encoder_2") == part_rate(found, "text_encoder") == 3e-5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_auto_is_the_row_s_rate_and_is_not_warned_of(name):
    found = config(optimizer={"name": name})
    assert part_rate(found, "unet") == OPTIMIZERS[name].rate
    assert remarks(found, 500) == []
    low, high = OPTIMIZERS[name].sensible
    for rate, word in ((low / 2, "do nothing"), (high * 2, "fry")):
        (said,) = remarks(config(optimizer={"name": name, "learning_rate": rate}))
        assert word in said.text and OPTIMIZERS[name].title in said.text


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"optimizer": {"name": "prodigy", "lora_plus_ratio": 16}}, ["LoRA+", "one for all"]),
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


@pytest.mark.parametrize(
    "sections",
    [
        {"optimizer": {"name": "sgd", "beta2": 0.95}},
        {"optimizer": {"name": "torch.optim.NAdam", "weight_decay": 0.1}},
        {"schedule": {"cycles": 5}},
        {"schedule": {"name": "restarts", "power": 3.0}},
        {"export": {"ema": True}},
        {"adapter": {"text_encoder_until": "50%"}},
    ],
)
def test_what_the_choice_does_not_take_is_refused(sections):
    with pytest.raises(UserError, match="has no effect"):
        config(**sections)


def test_what_is_taken_is_not_spoken_of():
    assert remarks(config(optimizer={"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6, "weight_decay": 0.1})) == []
    assert remarks(config(optimizer={"name": "sgd", "beta1": 0.8}, schedule={"name": "restarts", "cycles": 2})) == []


def test_a_rate_counts_with_alpha_and_rank_and_the_practice_base_takes_more():
    options = {"learning_rate": 4e-3}
    (said,) = remarks(config(optimizer=options))
    assert "fry" in said.text and "0.001" in said.text
    assert remarks(config(optimizer=options, adapter={"rank": 16, "alpha": 4})) == []
    assert remarks(config(model={"base": "demo"}, optimizer=options)) == []
    (said,) = remarks(config(adapter={"rank": 64, "alpha": 1}))
    assert "do nothing" in said.text
    assert remarks(config(optimizer={"name": "prodigy"}, adapter={"rank": 64, "alpha": 1})) == []


def test_rows_say_which_settings_they_read():
    assert OPTIMIZERS["adamw"].reads == tuple(
        f"optimizer.{name}" for name in ("beta1", "beta2", "epsilon", "weight_decay")
    )
    assert OPTIMIZERS["sgd"].reads == ("optimizer.beta1", "optimizer.weight_decay")
    assert optimizer_row("torch.optim.NAdam").reads == ()


@pytest.mark.parametrize(
    ("sections", "setting", "word"),
    [
        ({"training": {"ema": 0.99}}, "training.ema", "export.ema"),
        ({"optimizer": {"name": "schedulefree"}, "schedule": {"name": "cosine"}}, "schedule.name", "auto"),
        ({"optimizer": {"learning_rate": 5e-4, "lora_plus_ratio": 16}}, "optimizer.lora_plus_ratio", "B learns"),
    ],
)
def test_what_is_hardly_meant_is_said(sections, setting, word):
    (said,) = remarks(config(**sections))
    assert said.setting == setting and word in said.text


def test_a_preset_s_rate_is_translated_for_another_optimiser():
    preset = {**TEXT, "optimizer": {"learning_rate": 2e-3, "text_encoder_learning_rate": 1e-3}}
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
