"""The bare step must do the work that it stands for: PEFT's adapter, on the layers that every trainer here trains."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from benchmarks.ceiling import Inputs, Lean, stepper, wear_lean, wear_peft
from benchmarks.models import SIZES
from benchmarks.yardsticks import read_ours, read_theirs

SHAPE = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 2}


def tiny():
    torch.manual_seed(3)
    return UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **SHAPE,
    ).requires_grad_(False)


def seen():
    torch.manual_seed(5)
    return Inputs(torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([1, 900]), torch.randn(2, 7, 12), {})


@pytest.mark.parametrize(("name", "count"), [("sd15", 192), ("sd21", 192), ("sdxl", 722)])
def test_every_target_is_found(name, count):
    with torch.device("meta"):
        unet = SIZES[name].parts["unet"]()
        wear_lean(unet)
    assert sum(isinstance(module, Lean) for module in unet.modules()) == count


def test_a_lean_step_changes_the_adapter_as_a_step_with_peft():
    lean, peft = tiny(), tiny()
    wear_lean(lean)
    wear_peft(peft)
    pairs = []
    for name, module in lean.named_modules():
        if isinstance(module, Lean):
            other = peft.get_submodule(name)
            pairs += [(module.a, other.lora_A["default"].weight), (module.b, other.lora_B["default"].weight)]
    with torch.no_grad():
        for ours, theirs in pairs:
            theirs.copy_(ours.normal_(std=0.1))
    started = [ours.detach().clone() for ours, _ in pairs]
    for unet in (lean, peft):
        stepper(unet, seen(), autocast=False)()
    for (ours, theirs), before in zip(pairs, started, strict=True):
        assert not torch.equal(ours, before)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_gradients_of_the_lean_product():
    torch.manual_seed(0)
    layer = Lean(nn.Linear(6, 5, dtype=torch.float64).requires_grad_(False))
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)

    def answer(x, a, b):
        return torch.func.functional_call(layer, {"a": a, "b": b}, x)

    assert torch.autograd.gradcheck(answer, (x, layer.a, b))


def test_lines_of_both_yardsticks_read_alike():
    line = "RESULT sd15 b8 lean graph NCHW : 106.70 img/s 13.34 it/s 24.4% of 790 TFLOP/s peak 9.3 GiB warm-up 12 s"
    said = {"yardstick": "sd15:8:lean:nchw", "it/s": 13.34, "GiB": 9.3}
    assert read_theirs(line) == {**said, "script": True}
    eager = line.replace("lean graph", "peft eager")
    assert read_theirs(eager)["yardstick"] == "sd15:8:peft:eager"
    assert "out of memory" in read_theirs("RESULT sdxl:8:peft:eager FAILED OutOfMemoryError out of memory")["failed"]
    assert read_theirs("Loading weights") is None
    assert read_ours('{"yardstick": "matrix", "TFLOP/s": 780.1}')["TFLOP/s"] == 780.1
    assert read_ours("Some warning") is None
