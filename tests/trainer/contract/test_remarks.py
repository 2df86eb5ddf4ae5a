"""What is allowed and hardly meant is said, and nothing else is."""

import pytest

from trainer.contract.compose import compose, parse_assignments
from trainer.contract.rates import effective
from trainer.contract.remarks import remarks
from trainer.formats.sizes import sizes_of
from trainer.protocols import Target

SD = {"model": {"base": "someone/sd"}, "dataset": {"path": "pictures"}}


def of(*assignments: str):
    return compose([SD, parse_assignments(assignments)])


def test_the_effective_rate_by_hand():
    assert effective(of("optimizer.learning_rate=1e-4", "adapter.rank=16")).rate == 1e-4
    assert effective(of("optimizer.learning_rate=3e-4", "adapter.rank=16", "adapter.alpha=1")).rate == 3e-4 / 16


@pytest.mark.parametrize(
    ("assignments", "rate", "made"),
    [
        (["adapter.alpha=4"], 2.5e-5, "0.0001 x alpha 4 / rank 16"),
        (["adapter.alpha=4", "adapter.rslora=true"], 1e-4, "0.0001 x alpha 4 / sqrt(rank 16)"),
        (["adapter.alpha=double", "adapter.method=loha"], 2e-4, "0.0001 x alpha 32 / rank 16"),
        (["adapter.method=oft"], 1e-4, "OFT has no alpha"),
        (["optimizer.name=prodigy", "adapter.alpha=1"], 1.0, "1 x what Prodigy finds"),
    ],
)
def test_the_effective_rate_is_that_of_the_scale_that_the_layers_get(assignments, rate, made):
    config = of(*assignments)
    found = effective(config)
    assert (found.rate, found.made) == (pytest.approx(rate), made)
    assert str(found) == f"effective rate {rate:.3g} ({made})"
    if "alpha" in made and "has no" not in made:
        layer = Target("unet", "a")
        assert sizes_of({layer: (64, 64)}, config.adapter)[layer].scale == pytest.approx(rate / 1e-4)


RATE = "optimizer.learning_rate"


@pytest.mark.parametrize(
    ("assignments", "steps", "setting", "words"),
    [
        (["adapter.rank=16", "adapter.alpha=1"], None, RATE, ["do nothing", "6.25e-06", "alpha=auto"]),
        (["optimizer.learning_rate=1e-6"], None, RATE, ["do nothing", "Raise it."]),
        (["optimizer.learning_rate=2e-3"], None, RATE, ["fry", "Lower it."]),
        (["adapter.rank=1", "adapter.alpha=32"], 1000, RATE, ["fry", "alpha 32 / rank 1", "alpha=auto"]),
        ([], 20, "training.steps", ["20 steps", "do nothing", "Train longer"]),
        (["schedule.warmup=500"], 500, "schedule.warmup", ["500 steps", "a share"]),
        (["training.save_every=900"], 500, "training.save_every", ["no checkpoint", "20%"]),
        (["sampling.every=900"], 500, "sampling.every", ["no sample picture", "20%"]),
        (["validation.every=900"], 500, "validation.every", ["no measurement", "20%"]),
        (
            ["adapter.text_encoder=true", "adapter.text_encoder_until=500"],
            500,
            "adapter.text_encoder_until",
            ["to its end", "50%"],
        ),
        (
            ["model.zero_terminal_snr=on", "model.prediction=v_prediction", "objective.noise_offset=0.1"],
            None,
            "objective.noise_offset",
            ["zero terminal SNR", "Set it to 0"],
        ),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_said(assignments, steps, setting, words):
    (found,) = remarks(of(*assignments), steps)
    assert found.setting == setting and str(found).startswith(f"{setting}: ")
    for word in words:
        assert word in found.text


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["schedule.warmup=499", "training.save_every=500"],
        ["optimizer.learning_rate=5e-4"],
        ["optimizer.learning_rate=2e-5"],
    ],
)
def test_usual_rates_are_not_spoken_of(assignments):
    assert remarks(of(*assignments), 500) == []


def test_where_alpha_does_not_count_is_told():
    settings = ("optimizer.learning_rate=1e-3", "adapter.method=lokr", "adapter.rank=16")
    told = str(effective(of(*settings, "adapter.alpha=8")))
    assert "0.001 x alpha 8 / rank 16; 0.001 where both factors are whole" in told
    assert "where" not in str(effective(of(*settings))), "it is the same everywhere"
