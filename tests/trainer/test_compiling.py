"""Whether compiled blocks stay is settled before the run; Dynamo's own eager backend stands for the slow compiler."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import make_pictures, make_tiny_sd
from trainer import compiling
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rundir import create_run
from trainer.device import choose_engine
from trainer.formats.header import read_header
from trainer.loading import with_kernels


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("bases") / "sd")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("set") / "pictures", 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    yield
    torch._dynamo.reset()


def trained(home, base, pictures, name, **engine):
    """Train 2 steps; return (engine.json, notices, hash of the file's tensors)."""
    layer = {
        "model": {"base": str(base), "device": "cpu"},
        "dataset": {"path": str(pictures)},
        "adapter": {"rank": 2, "targets": "attention"},
        "training": {"steps": 2, "batch_size": 1, "threads": 1},
        "engine": engine,
        "sampling": {"every": "never"},
    }
    run = create_run(home, name, compose([layer]))
    assert main(["train", str(run.path)]) == 0
    notices = [event["text"] for event in run.events() if event["kind"] == "notice" and "compiler" in event["text"]]
    return run.engine(), notices, read_header(run.adapter_file).metadata["sshs_model_hash"]


def test_compiled_blocks_that_pay_stay_and_give_the_same_file(tmp_path, base, pictures, monkeypatch):
    monkeypatch.setattr(compiling, "GAIN", float("inf"))
    plain, _, wanted = trained(tmp_path, base, pictures, "plain")
    engine, notices, found = trained(tmp_path, base, pictures, "compiled", compile=True)
    assert (plain["compile"], engine["compile"], notices) == (False, True, [])
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("GAIN", 0.0, "ms without"), ("LIKENESS", 2.0, "gradients differ"), ("BACKEND", "no-such-backend", "no-such")],
)
def test_what_does_not_pay_is_given_up_and_costs_the_run_nothing(
    tmp_path, base, pictures, monkeypatch, name, value, said
):
    _, _, wanted = trained(tmp_path, base, pictures, "plain")
    monkeypatch.setattr(compiling, "GAIN", float("inf"))
    monkeypatch.setattr(compiling, name, value)
    engine, notices, found = trained(tmp_path, base, pictures, "tried", compile=True)
    assert not engine["compile"] and found == wanted
    assert len(notices) == 1 and "without torch's compiler" in notices[0] and said in notices[0]


def test_a_streamed_base_cannot_be_compiled():
    with pytest.raises(UserError, match="streamed"):
        compose([{"dataset": {"path": "x"}, "engine": {"base": "streamed", "compile": True}}])


def test_nothing_is_compiled_where_our_kernels_run(tmp_path, base, pictures, monkeypatch):
    monkeypatch.setattr("trainer.loading.trouble", lambda: "")
    config = compose([{"model": {"base": str(base)}, "dataset": {"path": str(pictures)}, "engine": {"compile": True}}])
    run, engine = create_run(tmp_path, "both", config), choose_engine(config, {})
    assert not with_kernels(run, replace(engine, kernels="triton")).compile
    assert [event["text"] for event in run.events() if "fuse the same" in event["text"]]
    assert with_kernels(run, engine).compile
    with pytest.raises(UserError, match="kernels=triton"):
        compose([{"dataset": {"path": "x"}, "engine": {"compile": True, "kernels": "triton"}}])
