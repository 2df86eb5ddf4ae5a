"""Captioners on the GPU: in its own number type, with inputs where the weights are."""

import pytest
import torch

from tests.tiny_captioners import make_blip, make_florence, make_llava
from tests.trainer.test_captioning import pictures
from trainer.contract.requests import CaptionRequest
from trainer.tools.captioners import open_captioner

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("make", [make_blip, make_florence, make_llava])
def test_a_captioner_runs_on_the_gpu_and_says_the_same_twice(tmp_path, make):
    model = make(tmp_path / "model")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    captioner = open_captioner(model, CaptionRequest(dataset="x", model=str(model)))
    shown = pictures()
    said = captioner(shown)
    assert len(said) == len(shown) and any(said)
    assert said == captioner(shown)
    assert torch.cuda.max_memory_allocated() > before, "it ran on the processor"
