"""Every objective inside a CUDA graph: `pytest -m gpu -n 0 tests/gpu/test_objectives.py`, some minutes."""

import pytest
import torch
from PIL import Image

from tests.tiny import make_pictures, make_tiny_sd
from tests.trainer.objectives.rows import ROWS
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run, steps
from trainer.formats.header import read_header

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("bases") / "sd")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two shapes, a mask, and pictures of regularisation in some of the batches only: four graphs with prior=base."""
    home = tmp_path_factory.mktemp("set")
    folder = make_pictures(home / "pictures", 3)
    make_pictures(folder / "wide", 2, (128, 64))
    Image.linear_gradient("L").resize((64, 64)).save(folder / "0-masklabel.png")
    return folder, make_pictures(home / "prior", 3)


def trained(home, base, pictures, name, objective, engine, **adapter):
    """Train 8 steps; return (hash of the file's tensors, losses, notices)."""
    folder, prior = pictures
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(folder), "flip": True, "concepts": [{"path": str(prior), "regularisation": True}]},
        "adapter": {"rank": 4, **adapter},
        "objective": objective,
        "optimizer": {"learning_rate": 1e-3},
        "training": {"steps": 8, "batch_size": 2, "accumulation": 2, "save_every": "never"},
        "engine": {"deterministic": True, "layout": "nchw", **engine},
        "sampling": {"every": "never"},
    }
    run = create_run(home, name, compose([layer]))
    assert main(["train", str(run.path)]) == 0
    notices = [
        event["text"]
        for event in run.events()
        if event["kind"] == "notice" and "could not be recorded" in event["text"]
    ]
    assert notices == [], "a step was not recorded"
    return read_header(run.adapter_file).metadata["sshs_model_hash"], [e["loss"] for e in steps(run).values()]


@pytest.fixture(scope="module")
def plain(base, pictures, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain"), base, pictures, "plain", {}, {"graph": "on"})


@pytest.mark.parametrize("name", ROWS)
def test_replayed_steps_are_the_eager_ones_bit_for_bit(tmp_path, base, pictures, plain, name):
    graph, eager = (trained(tmp_path, base, pictures, way, ROWS[name], {"graph": way}) for way in ("on", "off"))
    assert graph == eager
    assert graph != plain, "the objective counts"


@pytest.mark.parametrize(
    ("engine", "adapter"),
    [
        ({}, {"text_encoder": True}),
        ({}, {"dropout": 0.3}),
        ({"checkpointing": "full"}, {}),
        ({"checkpointing": "full", "base": "int8"}, {}),
        ({"checkpointing": "full", "base": "streamed"}, {}),
        ({"kernels": "torch"}, {}),
    ],
    ids=["text encoder", "dropout", "recomputed", "int8", "streamed", "torch's kernels"],
)
def test_with_the_base_s_own_answer_replayed_steps_are_the_eager_ones_too(tmp_path, base, pictures, engine, adapter):
    """The adapter is switched off and on again within one recording."""
    objective = {"prior": "base", "input_perturbation": 0.1, "weighting": "min_snr"}
    graph, eager = (
        trained(tmp_path, base, pictures, way, objective, {**engine, "graph": way}, **adapter) for way in ("on", "off")
    )
    assert graph == eager
