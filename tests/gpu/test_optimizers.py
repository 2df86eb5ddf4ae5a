"""Every optimiser on a GPU: 20 replayed steps are 20 eager ones, in one run or in two, bit for bit."""

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import make_pictures, make_tiny_sd
from trainer.__main__ import main
from trainer.contract.catalog import OPTIMIZERS
from trainer.contract.compose import compose
from trainer.contract.rundir import RunDir, create_run, steps

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

NAMES = [*OPTIMIZERS, "torch.optim.NAdam"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("bases") / "sd1")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = make_pictures(tmp_path_factory.mktemp("set") / "pictures", 4)
    make_pictures(folder / "wide", 3, (128, 64))  # a second shape: a second graph
    return folder


def made(home, base, pictures, graph, name, **sections) -> RunDir:
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "flip": True},
        "adapter": {"rank": 16, "dropout": 0.1, "text_encoder": True},
        "optimizer": {"name": name},
        "training": {"steps": 20, "batch_size": 2, "save_every": "never"},
        "engine": {"deterministic": True, "layout": "nchw", "graph": graph},
        "sampling": {"every": "50%", "steps": 1, "prompts": ["a"]},
        "export": {"dtype": "fp32"},
    }
    return create_run(home, f"{graph}-run", compose([layer, sections]))


def result(run: RunDir) -> tuple[dict[str, torch.Tensor], list[float]]:
    return load_file(run.adapter_file), [event["loss"] for event in steps(run).values()]


def the_same(one: RunDir, other: RunDir) -> bool:
    (mine, losses), (theirs, others) = result(one), result(other)
    return losses == others and all(torch.equal(mine[name], theirs[name]) for name in theirs)


def trained(*args, **sections) -> RunDir:
    run = made(*args, **sections)
    assert main(["train", str(run.path)]) == 0
    assert run.engine()["device"] == "cuda" and len(steps(run)) == 20
    return run


@pytest.mark.parametrize("name", NAMES)
def test_replayed_steps_are_the_eager_ones(tmp_path, base, pictures, name):
    replayed, eager = (trained(tmp_path, base, pictures, graph, name) for graph in ("on", "off"))
    assert the_same(replayed, eager)
    assert not any("could not be recorded" in event.get("text", "") for event in replayed.events())
    assert all(tensor.isfinite().all() for tensor in result(replayed)[0].values())


@pytest.mark.parametrize("name", NAMES)
def test_stopped_and_taken_up_again_it_is_the_same_run(tmp_path, base, pictures, name, monkeypatch):
    whole = trained(tmp_path / "whole", base, pictures, "on", name)
    parts = made(tmp_path / "parts", base, pictures, "on", name)
    asked = RunDir.asked
    with monkeypatch.context() as patch:
        patch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
        patch.setattr(RunDir, "asked", lambda run, what: asked(run, what) or (what == "stop" and len(steps(run)) >= 11))
        assert main(["train", str(parts.path)]) == 130
    assert 0 < parts.status().step < 20
    assert main(["train", str(parts.path)]) == 0
    assert the_same(whole, parts)


@pytest.mark.parametrize("name", ["adamw", "prodigy", "schedulefree"])
def test_where_the_text_encoder_stops_the_steps_are_recorded_anew(tmp_path, base, pictures, name):
    adapter = {"rank": 16, "dropout": 0.1, "text_encoder": True, "text_encoder_until": "8"}
    replayed, eager = (trained(tmp_path, base, pictures, graph, name, adapter=adapter) for graph in ("on", "off"))
    assert the_same(replayed, eager)


def test_an_average_beside_recorded_steps(tmp_path, base, pictures):
    training = {"steps": 20, "batch_size": 2, "save_every": "never", "ema": 0.9}
    export = {"ema": True, "dtype": "fp32"}
    replayed, eager, plain = (
        trained(
            tmp_path / name,
            base,
            pictures,
            graph,
            "adamw",
            training={**training, "ema": ema},
            export=export if ema else {"dtype": "fp32"},
        )
        for name, graph, ema in (("a", "on", 0.9), ("b", "off", 0.9), ("c", "on", 0.0))
    )
    assert the_same(replayed, eager)
    assert not the_same(replayed, plain)
    assert result(replayed)[1] == result(plain)[1], "the average disturbs nothing"


@pytest.mark.parametrize("name", ["prodigy", "adamw8bit", "came"])
def test_in_fp16_a_loss_scale_stands_around_any_of_them(tmp_path, base, pictures, name):
    model = {"base": str(base), "dtype": "fp16"}
    replayed, eager = (trained(tmp_path, base, pictures, graph, name, model=model) for graph in ("on", "off"))
    assert the_same(replayed, eager)
