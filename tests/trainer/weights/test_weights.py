"""Frozen weights in fewer bits, against the same products in full precision."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection
from trainer.protocols import Target
from trainer.weights.int8 import FEW, to_int8
from trainer.weights.layers import FrozenLayer, keep_no_inputs, layers, store, stored_bytes
from trainer.weights.nf4 import installed, to_nf4
from trainer.weights.plain import Plain

BITS = [
    pytest.param("int8", 0.02),
    pytest.param("nf4", 0.15, marks=pytest.mark.skipif(not installed(), reason="needs bitsandbytes")),
]
CPU = (torch.device("cpu"), torch.float32)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative error of a whole tensor."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored(layer: nn.Module, base: str, memory_format: torch.memory_format = torch.contiguous_format) -> FrozenLayer:
    """A copy of a layer, stored so, found under the path that it had."""
    model = nn.ModuleDict({"stage": nn.ModuleDict({"layer": type(layer)(**shape_of(layer))})})
    model.load_state_dict({f"stage.layer.{name}": tensor for name, tensor in layer.state_dict().items()})
    store(layers([("stage", model["stage"])]), model, base, *CPU, memory_format)
    return model.get_submodule("stage.layer")


def shape_of(layer: nn.Module) -> dict:
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
    return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}


@settings(deadline=None, max_examples=60)
@example(16, 2, 1, False, 0)
@given(st.integers(1, 70), st.integers(1, 90), st.integers(1, 90), st.booleans(), st.integers(0, 2**20))
def test_int8_products_are_near_those_of_the_widened_weight(rows, out, wide, biased, seed):
    weight, bias = random(out, wide, seed=seed), random(out, seed=seed + 1) if biased else None
    int8 = to_int8(weight, bias, torch.float32)
    assert off(int8.whole(), weight) < 0.01, "a weight is off by at most half a step of 1/127 of its row's largest"
    x, grad = random(rows, wide, seed=seed + 2), random(rows, out, seed=seed + 3)
    y, back = int8.forward(x), int8.backward(grad)
    wanted, wanted_back = F.linear(x, int8.whole(), bias), grad @ int8.whole()
    # Rounding moves every factor by at most half a step; what can come together in a sum is bounded, small or not.
    bound = (int8.whole().abs().sum(1) * x.abs().amax(1, keepdim=True) / 254).max() + 1e-5
    bound_back = ((grad * int8.scale).abs().amax(1) / 254).max() * int8.q.abs().sum(0).max() + 1e-5
    assert (y - wanted).abs().max() <= 1.01 * bound and (back - wanted_back).abs().max() <= 1.01 * bound_back
    if rows < FEW:
        torch.testing.assert_close(y, wanted)


@pytest.mark.parametrize(("base", "near"), BITS)
@pytest.mark.parametrize("rows", [3, 64])
def test_a_linear_layer_in_fewer_bits_is_near_the_whole_one(base, near, rows):
    torch.manual_seed(0)
    layer = nn.Linear(96, 160).requires_grad_(False)
    lean = stored(layer, base)
    x = random(2, rows, 96).requires_grad_()
    y = lean(x)
    assert 1e-4 < off(y, layer(x)) < near
    weight = random(*y.shape, seed=1)
    (found,) = torch.autograd.grad(y, x, weight)
    assert 1e-4 < off(found, weight @ layer.weight) < near


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "padding", "kernel"), [(1, 1, 3), (2, 1, 3), (2, 0, 3), (1, 0, 1)])
def test_a_convolution_answers_as_its_widened_weight_does_and_keeps_nothing(memory_format, stride, padding, kernel):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, kernel, stride, padding).requires_grad_(False)
    lean = stored(layer, "int8", memory_format)
    assert lean.frozen.q.is_contiguous(memory_format=memory_format)
    assert off(lean.frozen.whole(), layer.weight) < 0.01
    x = random(2, 6, 9, 8).to(memory_format=memory_format).requires_grad_()
    wanted = F.conv2d(x, lean.frozen.whole(), layer.bias, stride, padding)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor), lambda packed: packed):
        y = lean(x)
    assert not kept, "neither the input nor the widened weight may wait for the backward pass"
    torch.testing.assert_close(y, wanted)
    weight = random(*y.shape, seed=2)
    for found, expected in zip(torch.autograd.grad(y, x, weight), torch.autograd.grad(wanted, x, weight), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("base", "near"), BITS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_lora_over_fewer_bits_gets_nearly_the_gradients_it_gets_over_the_whole_weight(base, near, layout, kind):
    """The gradients of A and B do not pass through W at all: they must be those of the plain layer, given x and dy."""
    torch.manual_seed(3)
    layer = (nn.Linear(48, 64) if kind == "linear" else nn.Conv2d(48, 64, 1)).requires_grad_(False)
    x = random(2, 48, 6, 5).to(memory_format=layout) if kind == "convolution" else random(2, 30, 48)
    found = []
    for base_layer in (layer, stored(layer, base, layout)):
        model = nn.ModuleDict({"layer": base_layer})
        adapter = attach([Target("unet", "layer")], {"unet": model}, AdapterSection(rank=4), seed=1)
        adapter.arena.parameters["unet.layer.B"].data.copy_(random(64, 4, seed=5))
        entry = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = model["layer"](entry)
        (grad_x,) = torch.autograd.grad(y, entry, random(*y.shape, seed=6), retain_graph=True)
        y.backward(random(*y.shape, seed=6))
        found.append((y.detach(), grad_x, adapter.arena.grad.clone()))
    (y, grad_x, grads), (lean_y, lean_grad_x, lean_grads) = found
    assert 1e-5 < off(lean_y, y) < near and 1e-5 < off(lean_grad_x, grad_x) < near
    torch.testing.assert_close(lean_grads, grads)


def test_a_fault_in_a_row_is_seen_in_the_answer():
    int8 = to_int8(random(8, 8), None, torch.float32)
    for fault in (float("nan"), float("inf")):
        x = random(20, 8)
        x[3, 2] = fault
        y = int8.forward(x)
        assert not y[3].isfinite().any() and y[4:].isfinite().all()
    assert torch.equal(int8.forward(torch.zeros(20, 8)), torch.zeros(20, 8))


def test_a_row_of_zeros_and_a_very_small_one_are_kept():
    weight = random(4, 8)
    weight[1], weight[2] = 0, weight[2] * 1e-30
    whole = to_int8(weight, None, torch.float32).whole()
    assert torch.equal(whole[1], weight[1]) and off(whole[2] * 1e30, weight[2] * 1e30) < 0.01


@pytest.mark.parametrize(("base", "least"), [("int8", 1.0), ("nf4", 0.5)])
def test_bytes_are_foretold_from_a_layer_without_weights(base, least):
    with torch.device("meta"):
        layer = nn.Linear(1280, 640)
    size = 1280 * 640
    assert stored_bytes(layer, "plain", 2) == 2 * size + 2 * 640
    assert least * size < stored_bytes(layer, base, 2) < (least + 0.03) * size


@pytest.mark.skipif(not installed(), reason="needs bitsandbytes")
def test_nf4_is_widened_to_the_working_type():
    weight = random(32, 48)
    nf4 = to_nf4(weight.half(), None, torch.bfloat16)
    assert nf4.whole().dtype == torch.bfloat16 and nf4.whole().shape == weight.shape
    assert nf4.forward(random(3, 48).bfloat16()).dtype == torch.bfloat16


def test_a_plain_weight_is_the_layers_own():
    layer = nn.Conv2d(4, 6, 1)
    plain = Plain(layer)
    assert plain.whole() is layer.weight and plain.bias is layer.bias and plain.shape == (6, 4, 1, 1)


def test_convolutions_that_keep_nothing_give_the_same_bits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 4, 1))
    model.requires_grad_(False)
    x = random(2, 4, 9, 9).requires_grad_()

    def passed():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.shape), t)[1], lambda t: t):
            y = model(x)
        return y.detach(), torch.autograd.grad(y.square().sum(), x)[0], kept

    y, grad, kept = passed()
    assert kept.count((2, 4, 9, 9)) == 1, "torch keeps the input of a frozen convolution"
    keep_no_inputs(model)
    lean_y, lean_grad, lean_kept = passed()
    assert torch.equal(y, lean_y) and torch.equal(grad, lean_grad)
    assert (2, 4, 9, 9) not in lean_kept and len(lean_kept) < len(kept)
