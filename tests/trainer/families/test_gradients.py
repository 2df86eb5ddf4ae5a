"""The adapter's gradient through a whole UNet is PEFT's."""

import pytest
import torch

from tests.against_peft import cosine_to_peft
from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.kernels.reference import REFERENCE


@pytest.mark.parametrize("make", [make_tiny_sd, make_tiny_sdxl])
@pytest.mark.parametrize("kernels", [None, REFERENCE], ids=["diffusers' blocks", "lean blocks"])
def test_gradient_is_that_of_peft(tmp_path, make, kernels):
    assert cosine_to_peft(make(tmp_path / "base"), kernels, torch.device("cpu")) > 0.999999
