"""Our LoRA op against PEFT on the same weights, in float64."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from trainer.adapters.dropout import Dropout
from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection
from trainer.protocols import Target

PATH = "layer"


def ours_and_peft(layer: nn.Module, rank: int, alpha: float) -> tuple[nn.Module, nn.Module]:
    """The same frozen layer with the same A and B, once ours, once PEFT's, both float64."""
    first, second = (nn.ModuleDict({PATH: layer}) for _ in range(2))
    second.load_state_dict(first.state_dict())
    options = AdapterSection(rank=rank, alpha=alpha)
    adapter = attach([Target("unet", PATH)], {"unet": first}, options, seed=3)
    mine = adapter.layers[Target("unet", PATH)]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=[PATH], lora_dropout=0.0)
    theirs = inject_adapter_in_model(config, second)[PATH].double()
    up = torch.randn(mine.B.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mine.A.data, mine.B.data = mine.A.data.double(), up.clone()
    mine.A.grad = mine.B.grad = None
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(mine.A.view_as(theirs.lora_A["default"].weight))
        theirs.lora_B["default"].weight.copy_(up.view_as(theirs.lora_B["default"].weight))
    return mine, theirs


CASES = [
    (lambda: nn.Linear(12, 20), (3, 7, 12)),
    (lambda: nn.Linear(12, 20, bias=False), (5, 12)),
    (lambda: nn.Conv2d(6, 10, 1), (2, 6, 5, 4)),
    (lambda: nn.Conv2d(6, 10, 1, bias=False), (2, 6, 3, 3)),
    (lambda: nn.Conv2d(6, 10, 3, padding=1), (2, 6, 5, 4)),
    (lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1), (2, 6, 5, 4)),
]


@pytest.mark.parametrize(("make", "shape"), CASES)
@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (4, 4.0), (4, 1.0), (8, 16.0)])
def test_outputs_and_gradients_equal_peft(make, shape, rank, alpha):
    torch.manual_seed(1)
    layer = make().double().requires_grad_(False)
    mine, theirs = ours_and_peft(layer, rank, alpha)
    x = torch.randn(shape, dtype=torch.float64)
    x_mine, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_mine, y_theirs = mine(x_mine), theirs(x_theirs)
    assert (y_mine - layer(x)).abs().max() > 1e-3, "the update does nothing, so the comparison would prove nothing"
    torch.testing.assert_close(y_mine, y_theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(y_mine)
    (y_mine * weight).sum().backward()
    (y_theirs * weight).sum().backward()
    torch.testing.assert_close(x_mine.grad, x_theirs.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        mine.A.grad, theirs.lora_A["default"].weight.grad.view_as(mine.A), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(
        mine.B.grad, theirs.lora_B["default"].weight.grad.view_as(mine.B), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_gradients_with_dropout_are_those_of_the_masked_formula(make, shape):
    torch.manual_seed(2)
    layer = make().double().requires_grad_(False)
    mine, _ = ours_and_peft(layer, 4, 4.0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mine.dropout = Dropout(0.5, torch.Generator().manual_seed(5))  # one micro-step: every call sees the same mask
    assert torch.autograd.gradcheck(lambda x, A, B: _with(mine, A, B)(x), (x, mine.A, mine.B))


def _with(layer, A, B):
    layer._parameters["A"], layer._parameters["B"] = A, B
    return layer


def test_a_new_adapter_changes_nothing_and_gets_gradients():
    torch.manual_seed(0)
    model = nn.ModuleDict({PATH: nn.Linear(8, 8).requires_grad_(False)})
    x = torch.randn(4, 8)
    before = model[PATH](x)
    adapter = attach([Target("unet", PATH)], {"unet": model}, AdapterSection(rank=2), seed=0)
    assert torch.equal(model[PATH](x), before)
    model[PATH](x).square().sum().backward()
    arena = adapter.arena
    assert arena.grad[arena.groups["unet.B"]].abs().sum() > 0, "B must learn from the first step"
    assert arena.grad[arena.groups["unet.A"]].abs().sum() == 0, "with B at zero, A has no gradient yet"


@pytest.mark.parametrize("init", ["kaiming", "gaussian"])
def test_the_start_depends_on_the_seed_only(init):
    def start(seed):
        model = nn.ModuleDict({PATH: nn.Linear(8, 8).requires_grad_(False)})
        return attach(
            [Target("unet", PATH)], {"unet": model}, AdapterSection(rank=2, init=init), seed
        ).arena.master.clone()

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


def test_dropout_keeps_the_mean_and_works_where_the_rank_is_above_the_width():
    torch.manual_seed(0)
    model = nn.ModuleDict({PATH: nn.Linear(3, 4, bias=False).requires_grad_(False)})
    adapter = attach([Target("unet", PATH)], {"unet": model}, AdapterSection(rank=8), seed=0)
    adapter.arena.parameters["unet.layer.B"].data.normal_()
    x = torch.randn(1, 3).expand(4000, -1)
    whole = model[PATH](x).detach()
    adapter.dropout.rate = 0.5
    dropped = model[PATH](x).detach()
    with torch.no_grad():
        assert torch.equal(model[PATH](x), whole), "a sample is drawn with the whole adapter"
    assert dropped.std(dim=0).min() > 0.01
    torch.testing.assert_close(dropped.mean(dim=0), whole[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("make", "shape"), CASES)
def test_gradients_added_in_place_are_those_that_autograd_gets(make, shape, layout):
    torch.manual_seed(6)
    mine, _ = ours_and_peft(make().double().requires_grad_(False), 4, 2.0)
    x = torch.randn(shape, dtype=torch.float64)
    x = x.to(memory_format=layout) if x.dim() == 4 else x
    wanted = torch.autograd.grad(mine(x).square().sum(), (mine.A, mine.B))
    mine.A.grad, mine.B.grad = torch.ones_like(mine.A), torch.ones_like(mine.B)
    for _ in range(2):  # a second micro-step adds to the first
        mine(x).square().sum().backward()
    for grad, once in zip((mine.A.grad, mine.B.grad), wanted, strict=True):
        torch.testing.assert_close(grad, 1 + 2 * once)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("make", "shape"), CASES)
def test_switched_off_the_model_is_the_base_bit_for_bit(make, shape, layout):
    torch.manual_seed(7)
    layer = make().requires_grad_(False)
    model, x = nn.ModuleDict({PATH: layer}), torch.randn(shape)
    x = x.to(memory_format=layout) if x.dim() == 4 else x
    base = layer(x)
    adapter = attach([Target("unet", PATH)], {"unet": model}, AdapterSection(rank=2), seed=0)
    adapter.arena.work.normal_()
    on = model[PATH](x)
    with adapter.off():
        assert torch.equal(model[PATH](x), base)
    assert torch.equal(model[PATH](x), on) and not torch.equal(on, base)
