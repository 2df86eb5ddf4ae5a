"""What a run imports: a budget of names instead of seconds, since every machine has its own."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.trainer.test_resume import make_run
from trainer import startup

ROOT = Path(__file__).parents[2]

# What came with diffusers and transformers on a machine that has everything, and the seconds that each
# took there on two cores (Python 3.12, torch 2.11 with CUDA's libraries).
HEAVY = {
    "transformers": 0.9,
    "peft": 0.7,
    "sklearn": 0.8,
    "scipy": 0.8,
    "pandas": 0.3,
    "torchvision": 0.3,
    "torchaudio": 0.1,
    "tensorboard": 0.5,
    "jax": 1.0,
    "flax": 1.0,
    "matplotlib": 0.5,
    "gradio": 2.0,
    "huggingface_hub.hf_api": 0.2,
    "bitsandbytes": 0.3,
    "torch._dynamo.convert_frame": 1.1,  # its package is asked for, and refused
}


def imported(*command):
    """Every module that a process imported, in order."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE)


def test_a_whole_run_with_samples_imports_nothing_that_it_does_not_need(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=2)
    names = imported("-m", "trainer", "train", str(run.path))
    assert {"torch", "diffusers", "trainer.loop"} <= set(names)
    assert [event["step"] for event in run.events() if event["kind"] == "sample"], "the budget holds for samples too"
    assert not HEAVY.keys() & set(names)


def test_what_was_left_out_can_be_imported_afterwards():
    code = """
import sys
from trainer.startup import UNUSED, quick_imports
import importlib.metadata
with quick_imports():
    from trainer.families.locate import load_family
    assert all(sys.modules[name] is None for name in UNUSED)
assert not UNUSED.keys() & sys.modules.keys()
assert "torch" in importlib.metadata.packages_distributions()
import peft, transformers
"""
    assert {"diffusers", "peft", "transformers"} <= set(imported("-c", code))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no such hint")
@pytest.mark.parametrize(("base", "files"), [("folder", 3), ("file", 1), ("gone", 0), (None, 0)])
def test_reading_ahead_asks_for_each_weight_once_and_never_fails(base, files, tiny_sd, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_sd, tmp_path / "sd")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(unet, unet.with_suffix(".fp16.safetensors"))
    lone = shutil.copy(unet, tmp_path / "sd_xl_base_1.0.safetensors")
    asked = []
    monkeypatch.setattr(startup.os, "posix_fadvise", lambda file, *_: asked.append(os.fstat(file).st_ino))
    startup.read_ahead({"folder": folder, "file": lone, "gone": tmp_path / "gone", None: None}[base])
    for thread in threading.enumerate():
        if thread.name == "read-ahead":
            thread.join(30)
    assert len(asked) == len(set(asked)) == files
    assert base != "file" or asked == [lone.stat().st_ino]


def test_a_package_that_needs_the_compiler_gets_it():
    """What diffusers leaves out must not be missing for another package that is imported beside it."""
    code = """
import torch
from trainer.startup import quick_imports
with quick_imports():
    import torch._dynamo
    import trainer.assemble
assert torch._dynamo.allow_in_graph
assert torch.compiler.disable.__module__ == "torch.compiler"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_allocator_is_left_alone_where_someone_set_it(monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.release", lambda: "6.1.0-amd64")
    assert startup.growing_segments()
    monkeypatch.setattr("platform.release", lambda: "5.15.90.1-microsoft-standard-WSL2")
    assert not startup.growing_segments()
    monkeypatch.setattr("platform.release", lambda: "6.1.0-amd64")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:128")
    assert not startup.growing_segments()
