"""What a device without free memory says, what people are told, and whose memory is kept."""

import platform
import subprocess
import sys

import pytest
import torch

from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import ran_out, room
from trainer.families.source import readable
from trainer.preview.answer import answer, preview_engine
from trainer.preview.engine import Watcher

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", SHORT, ids=str)
def test_it_is_known_whoever_says_it(error):
    assert ran_out(error)
    with pytest.raises(UserError, match="too little free memory to fly"), room("to fly", "here", "walk"):
        raise error
    with pytest.raises(RuntimeError) as caught, readable("it cannot be read", "here", "fix"):
        raise error
    assert caught.value is error, "a lower rung of the memory ladder may do"


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("weight")])
def test_other_errors_are_none(error):
    assert not ran_out(error)
    with pytest.raises(type(error)), room("to fly", "here", "walk"):
        raise error
    with pytest.raises(UserError, match="it cannot be read"), readable("it cannot be read", "here", "fix"):
        raise error


@pytest.mark.parametrize("error", SHORT[:2], ids=str)
def test_a_preview_that_does_not_fit_is_no_fault_of_ours(tiny_sd, tmp_path, monkeypatch, error):
    engine = preview_engine(ModelSection(base=str(tiny_sd), device="cpu"))
    request = GenerateRequest(id="one", base=str(tiny_sd), out=str(tmp_path), pictures=(Picture(prompt="a cat"),))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("trainer.preview.engine.denoise", fail)
    with pytest.raises(UserError, match="too little free memory to draw this"):
        answer(engine, request, Watcher())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_tensors_take_over_the_pages_of_those_before():
    program = """
import resource, torch
from trainer.device import keep_pages
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2 * 2**20).add(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
keep_pages()
faults()
print(plain, faults())
"""
    plain, kept = map(int, subprocess.check_output([sys.executable, "-c", program]).split())
    assert kept < plain / 10
