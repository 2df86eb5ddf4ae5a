"""Frozen weights in fewer bits on a GPU: the kernels against float64, whole runs, graphs, memory."""

import gc

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from tests.full_size import UNETS
from tests.gpu.test_graph import base, pictures, trained  # noqa: F401 - fixtures
from trainer.families.sd import _blocks, _layers
from trainer.weights import int8_torch
from trainer.weights.int8 import kernels_for, to_int8
from trainer.weights.layers import Convolution, store, stored_bytes
from trainer.weights.streaming import stream

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

# Odd sizes, sizes of the models, a tile and one row more.
SHAPES = [(16, 16, 16), (17, 33, 40), (77, 1280, 2048), (129, 130, 131), (1024, 1280, 1280), (4096, 320, 1280),
          (2309, 5120, 640), (300, 7, 5)]  # fmt: skip


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


@pytest.mark.parametrize(("rows", "out", "wide"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_int8_kernels_against_float64(rows, out, wide, dtype):
    torch.manual_seed(rows)
    kernels = kernels_for(torch.device("cuda"))
    assert kernels.__name__.endswith("triton"), "this test is for a card of compute capability 8 or more"
    x, columns = torch.randn(rows, wide, device="cuda").to(dtype), torch.rand(wide, device="cuda")
    for factor in (None, columns):
        (q, scale), (wanted, wanted_scale) = kernels.quantise(x, factor), int8_torch.quantise(x, factor)
        assert (q.int() - wanted.int()).abs().max() <= 1
        torch.testing.assert_close(scale, wanted_scale)
    q, scale = kernels.quantise(x, None)
    weight = torch.randint(-127, 128, (out, wide), dtype=torch.int8, device="cuda")
    factors, bias = torch.rand(out, device="cuda"), torch.randn(out, device="cuda").to(dtype)
    exact = (q.double() @ weight.double().t()) * scale.double()[:, None]
    near = 4e-3 if dtype == torch.bfloat16 else 1e-6
    assert off(kernels.product(q, weight, scale, None, None, dtype), exact) < near
    assert off(kernels.product(q, weight, scale, factors, bias, dtype), exact * factors.double() + bias) < near
    assert torch.equal(kernels.transpose(weight), weight.t().contiguous())
    widened, plain = kernels.widen(weight, factors, dtype), int8_torch.widen(weight, factors, dtype)
    assert torch.equal(widened, plain)


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
def test_a_fault_in_a_row_is_seen_in_the_answer(fault):
    int8 = to_int8(torch.randn(64, 64, device="cuda"), None, torch.bfloat16)
    x = torch.randn(64, 64, device="cuda", dtype=torch.bfloat16)
    x[3, 2] = fault
    y = int8.forward(x)
    assert not y[3].isfinite().any() and y[4:].isfinite().all()


@pytest.mark.parametrize("rows", [1, 15, 16, 1024])
def test_int8_products_are_near_the_whole_ones_in_both_directions(rows):
    weight = torch.randn(640, 1280, device="cuda")
    int8 = to_int8(weight, torch.randn(640, device="cuda"), torch.bfloat16)
    x, grad = (torch.randn(rows, wide, device="cuda", dtype=torch.bfloat16) for wide in (1280, 640))
    assert off(int8.forward(x), F.linear(x.float(), weight, int8.bias.float())) < 0.02
    assert off(int8.backward(grad), grad.float() @ weight) < 0.02
    strided = torch.randn(rows, 2560, device="cuda", dtype=torch.bfloat16)[:, ::2]
    assert off(int8.forward(strided), F.linear(strided.float(), weight, int8.bias.float())) < 0.02


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_answers_as_its_widened_weight_does(memory_format):
    weight = torch.randn(64, 32, 3, 3, device="cuda").to(memory_format=memory_format)
    int8 = to_int8(weight, None, torch.bfloat16)
    x = torch.randn(2, 32, 17, 16, device="cuda", dtype=torch.bfloat16).to(memory_format=memory_format)
    x.requires_grad_()
    y, wanted = Convolution.apply(x, int8, 2, 1, 1), F.conv2d(x, int8.whole(), None, 2, 1)
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y, wanted)
    grad = torch.randn_like(y)
    torch.testing.assert_close(*(torch.autograd.grad(answer, x, grad)[0] for answer in (y, wanted)))


@pytest.mark.parametrize("rung", [{"base": "int8"}, {"base": "int8", "checkpointing": "none"}, {"base": "nf4"}])
def test_a_base_in_fewer_bits_trains_nearly_as_well(tmp_path, base, pictures, rung):  # noqa: F811
    if rung["base"] == "nf4":
        pytest.importorskip("bitsandbytes")
    _, plain = trained(tmp_path, base, pictures, "plain", {})
    _, lean = trained(tmp_path, base, pictures, "lean", rung)
    assert lean == pytest.approx(plain, rel=0.1 if rung["base"] == "nf4" else 0.02)


def test_replayed_int8_steps_are_the_eager_ones_bit_for_bit(tmp_path, base, pictures):  # noqa: F811
    options = {"deterministic": True, "layout": "nchw", "base": "int8", "checkpointing": "full"}
    assert trained(tmp_path, base, pictures, "graph", options) == trained(
        tmp_path, base, pictures, "eager", {**options, "graph": "off"}
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_streaming_gives_the_steps_of_int8(tmp_path, base, pictures, layout):  # noqa: F811
    options = {"deterministic": True, "layout": layout, "graph": "off"}
    resident = trained(tmp_path, base, pictures, "int8", {**options, "base": "int8", "checkpointing": "full"})
    assert resident == trained(tmp_path, base, pictures, "streamed", {**options, "base": "streamed"})


@pytest.mark.parametrize("kind", ["int8", "nf4", "streamed"])
def test_a_full_size_unet_is_stored_without_ever_being_whole_on_the_device(kind):
    """SDXL: 4.8 GiB in bf16, 2.4 in int8. Its modules are made without memory, their weights one by one."""
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS["sdxl"])
    foretold = sum(stored_bytes(layer, kind, 2) for _, layer in _layers(unet))
    for _, layer in _layers(unet):
        layer.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16).expand(layer.weight.shape), False)
        layer.bias = (
            None if layer.bias is None else torch.nn.Parameter(torch.zeros(len(layer.bias), dtype=torch.float16), False)
        )
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, place = torch.cuda.memory_allocated(), (torch.device("cuda"), torch.bfloat16, torch.contiguous_format)
    if kind == "streamed":
        stream(unet, list(_blocks(unet)), *place)
    store(_layers(unet), unet, kind, *place)
    held, peak = torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
    limit = 0.3 * 2**30 if kind == "streamed" else 1.03 * foretold
    assert held < limit and peak < held + 0.7 * 2**30, (held / 2**30, peak / 2**30)
