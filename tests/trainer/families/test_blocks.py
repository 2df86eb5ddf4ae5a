"""The lean blocks compute what diffusers' own do, and are in the way of nothing."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.families.blocks import Resnet, SpatialTransformer, lean, lean_decoder, recomputable
from trainer.kernels.reference import REFERENCE


@pytest.fixture(scope="module", params=[make_tiny_sd, make_tiny_sdxl])
def theirs(request, tmp_path_factory):
    folder = request.param(tmp_path_factory.mktemp("base") / "base")
    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float64).requires_grad_(False)


@pytest.fixture
def ours(theirs):
    unet = copy.deepcopy(theirs)
    lean(unet, REFERENCE)
    return unet


def answer(unet, noisy, text):
    """What the UNet says and the gradient of a sum of it, for pictures and text."""
    torch.manual_seed(1)
    config = unet.config
    added = None
    if config.addition_embed_type:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": torch.randn(2, pooled).double(), "time_ids": torch.rand(2, 6).double() * 100}
    said = unet(noisy, torch.tensor([3, 700]), text, added_cond_kwargs=added, return_dict=False)[0]
    return said, *torch.autograd.grad((said * torch.randn(said.shape).double()).sum(), (noisy, text))


def inputs(unet, height, width):
    torch.manual_seed(0)
    noisy = torch.randn(2, unet.config.in_channels, height, width).double().requires_grad_()
    return noisy, torch.randn(2, 77, unet.config.cross_attention_dim).double().requires_grad_()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (12, 4)])
def test_answer_and_gradients_are_those_of_diffusers(theirs, ours, layout, size):
    given = inputs(theirs, *size)
    wanted, found = answer(theirs, *given), answer(ours.to(memory_format=layout), *given)
    for right, mine in zip(wanted, found, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-10)


def test_every_block_is_swapped_and_no_layer_changes_its_path(theirs, ours):
    assert not any(isinstance(module, ResnetBlock2D) for module in ours.modules())
    assert sum(isinstance(module, Resnet | SpatialTransformer) for module in ours.modules()) == 12
    kinds = (nn.Linear, nn.Conv2d)
    assert sorted(path for path, m in ours.named_modules() if isinstance(m, kinds)) == sorted(
        path for path, m in theirs.named_modules() if isinstance(m, kinds)
    )


def test_a_block_that_does_more_is_left_alone_and_still_gets_the_right_embedding(theirs):
    unet, plain = copy.deepcopy(theirs), copy.deepcopy(theirs)
    for model in (unet, plain):
        model.mid_block.resnets[0].output_scale_factor = 2.0
    lean(unet, REFERENCE)
    assert isinstance(unet.mid_block.resnets[0], ResnetBlock2D)
    assert isinstance(unet.mid_block.resnets[1], Resnet)
    given = inputs(theirs, 8, 8)
    torch.testing.assert_close(answer(unet, *given)[0], answer(plain, *given)[0], rtol=1e-9, atol=1e-10)


def test_blocks_can_be_computed_again_in_the_backward_pass(ours):
    again = copy.deepcopy(ours)
    seen = []

    def run(block, *given):
        seen.append(block)
        return torch.utils.checkpoint.checkpoint(block, *given, use_reentrant=False)

    again.enable_gradient_checkpointing(run)
    given = inputs(ours, 8, 8)
    for right, mine in zip(answer(ours, *given), answer(again, *given), strict=True):
        torch.testing.assert_close(mine, right)
    # diffusers leaves the first block of the middle out
    assert set(seen) == set(recomputable(again)) - {again.mid_block.resnets[0]}


def test_a_transformer_of_one_block_is_computed_again_with_what_is_around_it(ours):
    units = set(map(id, recomputable(ours)))
    for module in ours.modules():
        if isinstance(module, SpatialTransformer):
            assert (id(module) in units) == (len(module.transformer_blocks) == 1)
            assert all((id(block) in units) != (id(module) in units) for block in module.transformer_blocks)


@torch.no_grad()
def test_a_decoder_with_our_normalisation_is_that_of_diffusers(tmp_path):
    vae = AutoencoderKL.from_pretrained(make_tiny_sd(tmp_path / "base"), subfolder="vae")
    ours = copy.deepcopy(vae)
    lean_decoder(ours.decoder, REFERENCE)
    assert not [block for block in ours.decoder.modules() if isinstance(block, nn.SiLU | ResnetBlock2D)]
    latents = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(ours.decode(latents).sample, vae.decode(latents).sample)
