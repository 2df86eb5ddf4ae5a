"""Dropout of ranks and of whole layers, and the largest norm of an update."""

import pytest
import torch
from torch import nn

from trainer.adapters.arena import Arena, Slot
from trainer.adapters.dropout import Dropout
from trainer.adapters.lora import attach
from trainer.contract.compose import compose
from trainer.contract.config import AdapterSection, OptimizerSection
from trainer.optim.average import decay_at
from trainer.optim.build import build
from trainer.optim.flat import adamw
from trainer.optim.norms import NormLimit
from trainer.optim.scaling import Guard, LossScale
from trainer.protocols import Target

MAKERS = {
    "linear": (lambda: nn.Linear(6, 5), (4, 7, 6)),
    "1x1": (lambda: nn.Conv2d(6, 5, 1), (4, 6, 3, 3)),
    "3x3": (lambda: nn.Conv2d(6, 5, 3, padding=1), (4, 6, 3, 3)),
}


def adapted(kind: str = "linear", count: int = 1, **options):
    torch.manual_seed(0)
    make, shape = MAKERS[kind]
    model = nn.ModuleDict({f"layer{i}": make().requires_grad_(False) for i in range(count)})
    targets = [Target("unet", f"layer{i}") for i in range(count)]
    adapter = attach(targets, {"unet": model}, AdapterSection(rank=4, **options), 0)
    adapter.arena.master.normal_(generator=torch.Generator().manual_seed(1))
    return model, adapter, torch.randn(shape)


@pytest.mark.parametrize("kind", MAKERS)
def test_rank_dropout_leaves_the_same_ranks_out_of_a_whole_sample(kind):
    model, adapter, x = adapted(kind, rank_dropout=0.5)
    layer = model["layer0"]
    answer = layer(x)
    (mask,) = adapter.dropout._masks.values()
    mask = mask.view(len(x), -1, 4)
    assert (mask == mask[:, :1]).all() and not (mask == mask[:1]).all(), "alike within a sample, not between them"
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    down = layer.A if kind == "3x3" else layer.A.view(4, 6, *[1] * (x.dim() - 2)) if x.dim() == 4 else layer.A
    for sample, kept in enumerate(mask[:, 0]):
        delta = torch.einsum("or,r...->o...", layer.B * kept, down)
        weight = layer.base.weight + delta
        one = x[sample : sample + 1]
        wanted = (
            nn.functional.linear(one, weight, layer.base.bias)
            if x.dim() == 3
            else layer.base._conv_forward(one, weight, layer.base.bias)
        )
        torch.testing.assert_close(answer[sample : sample + 1], wanted)


@pytest.mark.parametrize("kind", MAKERS)
def test_module_dropout_makes_a_layer_answer_as_the_base(kind):
    model, adapter, x = adapted(kind, count=12, module_dropout=0.5)
    out = 0
    for layer in model.values():
        answer, base = layer(x), layer.base(x)
        adapter.dropout.module_rate = 0.0
        whole, adapter.dropout.module_rate = layer(x), 0.5
        dropped = torch.allclose(answer, base, atol=1e-5)
        assert dropped or torch.allclose(answer, whole, atol=1e-5)
        out += dropped
    assert 2 <= out <= 10
    with torch.no_grad():
        assert not torch.equal(model["layer0"](x), model["layer0"].base(x)), "a sample is drawn with all of it"


def test_layers_computed_together_are_left_out_one_by_one():
    dropout = Dropout(0.0, torch.Generator().manual_seed(3), module_rate=0.5)
    layers = [nn.Linear(1, 1) for _ in range(20)]
    masks = torch.stack([dropout.mask(layer, torch.zeros(1), (2, 3, 12), 3) for layer in layers])
    each = masks.view(20, 6, 3, 4)
    assert (each == each[:, :1, :, :1]).all(), "a layer as a whole"
    assert len({tuple(row) for row in each[:, 0, :, 0].tolist()}) > 3, "each by itself"


@pytest.mark.parametrize("kind", MAKERS)
def test_no_update_is_longer_than_the_limit_and_shorter_ones_are_untouched(kind):
    _, adapter, _ = adapted(kind, count=3, alpha=2.0)
    small = adapter.view("unet.layer1.A")
    small.mul_(1e-3)
    kept = small.clone()
    limit = NormLimit(adamw(adapter.arena, OptimizerSection(weight_decay=0.0)), adapter.arena, adapter.sizes, 0.5)
    limit.step(dict.fromkeys(adapter.arena.groups, 0.0))
    for target in adapter.layers:
        A, B = (adapter.view(f"{target}.{letter}") for letter in "AB")
        norm = (0.5 * B @ A.flatten(1)).norm().item()
        if target.path == "layer1":
            assert torch.equal(A, kept) and norm < 0.5
        else:
            assert norm == pytest.approx(0.5, rel=1e-4)
    assert torch.equal(adapter.arena.work, adapter.arena.master)


def test_layers_that_learn_no_more_are_left_as_they_are():
    _, adapter, _ = adapted(count=1)
    limit = NormLimit(adamw(adapter.arena, OptimizerSection(weight_decay=0.0)), adapter.arena, adapter.sizes, 0.5)
    limit.settle(list(adapter.arena.groups))
    kept = adapter.arena.master.clone()
    limit.step({})
    assert torch.equal(adapter.arena.master, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_run_holds_the_limit_before_the_average_sees_the_matrices(dtype):
    _, adapter, _ = adapted(count=2, max_norm=0.5)
    base = {"dataset": {"path": "x"}, "adapter": {"max_norm": 0.5}, "training": {"ema": 0.9}, "export": {"ema": True}}
    arena = Arena(
        [Slot(name, f"unet.{name[-1]}", tuple(adapter.view(name).shape)) for name in adapter.arena.parameters],
        torch.device("cpu"),
        dtype,
    )
    arena.master.normal_(generator=torch.Generator().manual_seed(1))
    whole = build(arena, compose([base]), adapter.sizes)
    names = {"first", "second", "count", "average", "average_count"}  # as checkpoints of any version have them
    assert set(whole.state()) == names | ({"scale", "scale_good"} if dtype == torch.float16 else set())
    assert isinstance(whole, LossScale if dtype == torch.float16 else Guard)
    whole.step(dict.fromkeys(arena.groups, 0.0))
    for target in adapter.layers:
        A, B = (arena.view(arena.master, f"{target}.{letter}") for letter in "AB")
        assert (B @ A).norm().item() == pytest.approx(0.5, rel=1e-4)
    before = torch.Generator().manual_seed(1)
    first = torch.empty_like(arena.master).normal_(generator=before)
    torch.testing.assert_close(whole.shown(), torch.lerp(first, arena.master, 1 - decay_at(0, 0.9)))
