"""Whole runs over the lean blocks, on the CPU with the definitions of our kernels in the place of the kernels."""

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import make_pictures, make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run, steps
from trainer.families.blocks import TransformerBlock
from trainer.formats.header import read_header
from trainer.kernels.reference import REFERENCE

MAKERS = {"sd1": make_tiny_sd, "sdxl": make_tiny_sdxl}


def as_strict_as_ours(*given, shift=None, **more):
    """Our kernel has no gradient for the shift, and refuses one that wants it."""
    assert shift is None or not shift.requires_grad
    return REFERENCE.group_norm(*given, shift=shift, **more)


@pytest.fixture(scope="module", params=MAKERS)
def base(request, tmp_path_factory):
    return MAKERS[request.param](tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("set") / "pictures", 4)


def make_lean(monkeypatch):
    """From now on runs of this process take the lean blocks."""
    monkeypatch.setattr("trainer.device._kernels", lambda *_: "triton")
    monkeypatch.setattr("trainer.loading.trouble", lambda: "")
    monkeypatch.setattr("trainer.families.sd.our_kernels", lambda: REFERENCE._replace(group_norm=as_strict_as_ours))


@pytest.fixture
def lean_on_the_cpu(monkeypatch):
    make_lean(monkeypatch)


def trained(home, base, pictures, name, engine=None, **adapter):
    """Train 4 steps; return (the run, hash of the file's tensors, losses)."""
    layer = {
        "model": {"base": str(base), "device": "cpu"},
        "dataset": {"path": str(pictures), "flip": True},
        "adapter": {"rank": 4, **adapter},
        "training": {"steps": 4, "batch_size": 2, "accumulation": 2, "save_every": "never"},
        "engine": engine or {},
        "sampling": {"every": "50%", "steps": 2},
    }
    run = create_run(home, name, compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return run, read_header(run.adapter_file).metadata["sshs_model_hash"], [e["loss"] for e in steps(run).values()]


@pytest.mark.parametrize("options", [{}, {"text_encoder": True}, {"dropout": 0.3}], ids=str)
def test_recomputation_changes_no_bit(tmp_path, base, pictures, lean_on_the_cpu, options):
    _, *kept = trained(tmp_path, base, pictures, "none", **options)
    for share in ("half", "full"):
        _, *again = trained(tmp_path, base, pictures, share, {"checkpointing": share}, **options)
        assert again == kept


def test_streaming_gives_the_file_of_int8(tmp_path, base, pictures, lean_on_the_cpu):
    _, *resident = trained(tmp_path, base, pictures, "int8", {"base": "int8", "checkpointing": "full"})
    _, *streamed = trained(tmp_path, base, pictures, "streamed", {"base": "streamed"})
    assert resident == streamed


@pytest.mark.parametrize("options", [{}, {"text_encoder": True}], ids=str)
def test_a_run_learns_what_it_learns_over_diffusers_blocks(tmp_path, base, pictures, monkeypatch, options):
    plain, _, theirs = trained(tmp_path, base, pictures, "plain", **options)
    make_lean(monkeypatch)
    lean, _, ours = trained(tmp_path, base, pictures, "lean", **options)
    assert lean.engine()["kernels"] == "triton" and plain.engine()["kernels"] == "torch"
    assert ours == pytest.approx(theirs, rel=1e-4)
    both = [{name: at.float() for name, at in load_file(run.adapter_file).items()} for run in (plain, lean)]
    for name, right in both[0].items():
        if name.endswith("lora_up.weight"):
            assert (right.norm() > 0) == (both[1][name].norm() > 0), f"{name} learns in one of them only"


def test_kernels_that_cannot_run_are_left_out_with_a_word(tmp_path, base, pictures, monkeypatch):
    monkeypatch.setattr("trainer.device._kernels", lambda *_: "triton")
    run, *_ = trained(tmp_path, base, pictures, "run")
    assert run.engine()["kernels"] == "torch"
    assert any("no CUDA device" in event["text"] for event in run.events() if event["kind"] == "notice")


@pytest.mark.parametrize("asked", [{"kernels": "triton"}, {"graph": "on"}], ids=str)
def test_what_only_a_gpu_has_is_refused_on_a_cpu_before_anything_is_done(tmp_path, base, pictures, asked, capsys):
    layer = {
        "model": {"base": str(base), "device": "cpu"},
        "dataset": {"path": str(pictures)},
        "training": {"steps": 1},
    }
    # Kept, as `auto` would be taken on a machine without a GPU: where the CPU is named, it is refused in the config.
    run = create_run(tmp_path, "run", compose([{**layer, "engine": asked}], "keep"))
    assert main(["train", str(run.path)]) == 2
    assert "engine." in run.status().message and not (run.path / "cache").exists()


def test_running_out_of_memory_in_a_library_takes_a_lower_rung_too(
    tmp_path, base, pictures, lean_on_the_cpu, monkeypatch
):
    real, failed = TransformerBlock.forward, []

    def fail_once(self, *given):
        if torch.is_grad_enabled() and not failed:
            failed.append(1)
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return real(self, *given)

    monkeypatch.setattr(TransformerBlock, "forward", fail_once)
    run, *_ = trained(tmp_path, base, pictures, "run")
    assert run.engine()["rung"] == "half"
