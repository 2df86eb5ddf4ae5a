"""Query, key and value computed together give what they give apart."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection
from trainer.families.blocks import CrossAttention, lean
from trainer.families.sd import UNET_TARGETS, _paths
from trainer.kernels.reference import REFERENCE
from trainer.protocols import Target
from trainer.weights.layers import layers, store


@pytest.fixture(scope="module", params=[make_tiny_sd, make_tiny_sdxl])
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("base") / "base")


def adapted(folder, paths=lambda path: True, **options):
    """A UNet with an adapter that is not zero; its attentions."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
    lean(unet, REFERENCE)
    targets = [
        Target("unet", path) for path in _paths(unet, UNET_TARGETS["attention"]) if "attn" in path and paths(path)
    ]
    adapter = attach(targets, {"unet": unet}, AdapterSection(rank=4, alpha=2, **options), 0)
    adapter.arena.work.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    return adapter, [module for module in unet.modules() if isinstance(module, CrossAttention)]


def learned(adapter, attention):
    """Answer and gradient of one attention's input, with the adapter's gradient."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, attention.to_q.weight.shape[1], generator=generator).requires_grad_()
    text = torch.randn(2, 5, attention.to_k.weight.shape[1], generator=generator)
    adapter.arena.grad.zero_()
    adapter.dropout.begin()
    adapter.dropout.generator.manual_seed(7)
    answer = attention(x, x if len(attention.shared) == 3 else text)
    answer.square().sum().backward()
    return answer.detach(), x.grad, adapter.arena.grad.clone()


def test_together_is_the_same_as_apart(folder):
    adapter, attentions = adapted(folder)
    for attention in attentions:
        assert attention.packed is not None
        together, packed = learned(adapter, attention), attention.packed
        attention.packed = None
        apart, attention.packed = learned(adapter, attention), packed
        for mine, right in zip(together, apart, strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)


def test_each_layer_still_holds_its_own_rows_of_the_base(folder):
    _, attentions = adapted(folder)
    plain = UNet2DConditionModel.from_pretrained(folder / "unet")
    theirs = plain.mid_block.attentions[0].transformer_blocks[0].attn1
    ours = next(one for one in attentions if torch.equal(one.to_q.base.weight, theirs.to_q.weight))
    for name in ("to_k", "to_v"):
        assert torch.equal(getattr(ours, name).base.weight, getattr(theirs, name).weight)
    assert ours.to_v.base.weight.untyped_storage().data_ptr() == ours.to_q.base.weight.untyped_storage().data_ptr()


def test_dropout_masks_differ_between_the_layers_and_repeat_with_the_seed(folder):
    adapter, attentions = adapted(folder, dropout=0.5)
    one, two = (learned(adapter, attentions[0]) for _ in range(2))
    adapter.dropout.rate = 0.0
    whole = learned(adapter, attentions[0])
    assert torch.equal(one[0], two[0]) and torch.equal(one[2], two[2])
    assert not torch.allclose(one[0], whole[0])


def test_layers_that_are_not_all_trained_stay_apart(folder):
    _, attentions = adapted(folder, paths=lambda path: not path.endswith("to_k"))
    assert all(attention.packed is None for attention in attentions)


def test_a_base_in_fewer_bits_stays_apart(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
    lean(unet, REFERENCE)
    blocks = [(path, module) for path, module in unet.named_modules() if isinstance(module, CrossAttention)]
    store(layers(blocks), unet, "int8", torch.device("cpu"), torch.float32, torch.contiguous_format)
    targets = [Target("unet", f"{path}.{name}") for path, _ in blocks for name in ("to_q", "to_k", "to_v")]
    attach(targets, {"unet": unet}, AdapterSection(rank=4), 0)
    assert all(attention.packed is None for _, attention in blocks)


def test_switched_off_they_answer_as_the_base_does_and_switched_on_again_as_before(folder):
    adapter, attentions = adapted(folder)
    kept = adapter.arena.work.clone()
    for attention in attentions:
        on = learned(adapter, attention)[0]
        adapter.arena.work.zero_()
        base = learned(adapter, attention)[0]
        adapter.arena.work.copy_(kept)
        with adapter.off(), torch.no_grad():
            generator = torch.Generator().manual_seed(1)
            x = torch.randn(2, 6, attention.to_q.weight.shape[1], generator=generator)
            text = torch.randn(2, 5, attention.to_k.weight.shape[1], generator=generator)
            off = attention(x, x if len(attention.shared) == 3 else text)
        assert torch.equal(off, base) and not torch.equal(on, base)
        assert torch.equal(learned(adapter, attention)[0], on)
