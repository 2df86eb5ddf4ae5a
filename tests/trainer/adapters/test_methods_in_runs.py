"""Adapter methods beside what else a run can ask for: a stop, an average, prior preservation, optimisers."""

import pytest

from tests.tiny import make_pictures
from tests.trainer.optim.test_every_row import trained_through_and_in_two_parts
from trainer.contract.rundir import steps

SHARED = {"training": {"ema": 0.9}, "export": {"ema": True}}
MIXED = {
    "ranks": {"mid_block.*": 2, "*.attn2.to_k": 6},
    "module_dropout": 0.2,
    "rank_dropout": 0.2,
    "max_norm": 0.01,
    "rslora": True,
    "targets": "everything",
}


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adamw", {**MIXED, "text_encoder_until": "75%"}),
        ("prodigy", {**MIXED, "conv_rank": 2}),
        ("lion", {"method": "dora", "module_dropout": 0.2, "text_encoder_until": "75%"}),
        ("adafactor", {"method": "lokr", "targets": "everything"}),
    ],
    ids=["lora-adamw", "lora-prodigy", "dora-lion", "lokr-adafactor"],
)
def test_a_stop_changes_nothing(tmp_path, monkeypatch, tiny_sd, tiny_set, optimizer, options):
    prior = {"path": str(make_pictures(tmp_path / "prior", 2)), "regularisation": True, "class_word": "box"}
    taught = {"prior": "pictures" if "text_encoder_until" in options else "base"}  # not both
    sections = {"adapter": options, "dataset": {"concepts": [prior]}, "objective": taught, **SHARED}
    run = trained_through_and_in_two_parts(tmp_path, monkeypatch, 2, tiny_sd, tiny_set, optimizer, **sections)
    assert list(steps(run)) == [1, 2, 3, 4]
