"""The tables of layers against diffusers' models and against names written by hand."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tests.full_size import TEXTS, UNETS
from trainer.formats.clients.models import SD1, SD2, SDXL, TEXT, TEXT_2, UNET, model_of

COUNTS = {SD1: (192, 72, 0), SD2: (192, 138, 0), SDXL: (722, 72, 192)}
LITERAL = {
    SD1: {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k",
            (320, 768),
        ),
        "down_blocks.2.attentions.1.proj_in": ("input_blocks.8.1.proj_in", (1280, 1280, 1, 1)),
        "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": (
            "middle_block.1.transformer_blocks.0.ff.net.0.proj",
            (10240, 1280),
        ),
        "mid_block.resnets.1.conv1": ("middle_block.2.in_layers.2", (1280, 1280, 3, 3)),
        "up_blocks.0.upsamplers.0.conv": ("output_blocks.2.1.conv", (1280, 1280, 3, 3)),
        "up_blocks.3.resnets.0.conv_shortcut": ("output_blocks.9.0.skip_connection", (320, 960, 1, 1)),
        "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2": (
            "output_blocks.11.1.transformer_blocks.0.ff.net.2",
            (320, 1280),
        ),
        "text_model.encoder.layers.11.mlp.fc1": ("text_model.encoder.layers.11.mlp.fc1", (3072, 768)),
    },
    SD2: {
        "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v": (
            "input_blocks.5.1.transformer_blocks.0.attn2.to_v",
            (640, 1024),
        ),
        "down_blocks.2.attentions.1.proj_in": ("input_blocks.8.1.proj_in", (1280, 1280)),
        "text_model.encoder.layers.22.self_attn.out_proj": (
            "text_model.encoder.layers.22.self_attn.out_proj",
            (1024, 1024),
        ),
    },
    SDXL: {
        "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k": (
            "input_blocks.4.1.transformer_blocks.1.attn2.to_k",
            (640, 2048),
        ),
        "down_blocks.0.downsamplers.0.conv": ("input_blocks.3.0.op", (320, 320, 3, 3)),
        "mid_block.attentions.0.transformer_blocks.9.attn1.to_out.0": (
            "middle_block.1.transformer_blocks.9.attn1.to_out.0",
            (1280, 1280),
        ),
        "up_blocks.0.upsamplers.0.conv": ("output_blocks.2.2.conv", (1280, 1280, 3, 3)),
        "up_blocks.1.attentions.2.proj_out": ("output_blocks.5.1.proj_out", (640, 640)),
        "up_blocks.2.resnets.2.norm1": ("output_blocks.8.0.in_layers.0", (640,)),
        "time_embedding.linear_2": ("time_embed.2", (1280, 1280)),
        "add_embedding.linear_1": ("label_emb.0.0", (1280, 2816)),
        "conv_norm_out": ("out.0", (320,)),
        "text_model.encoder.layers.31.mlp.fc2": ("text_model.encoder.layers.31.mlp.fc2", (1280, 5120)),
    },
}


@pytest.mark.parametrize("family", COUNTS)
def test_as_many_layers_as_kohya_trains(family):
    layers = [layer for layer in model_of(family).layers if not layer.norm]
    unet = sum(layer.part == UNET and "attentions" in layer.path for layer in layers)
    texts = [sum(layer.part == part and "layers" in layer.path for layer in layers) for part in (TEXT, TEXT_2)]
    assert (unet, *texts) == COUNTS[family]


@pytest.mark.parametrize("family", LITERAL)
def test_some_layers_by_name(family):
    found = {layer.path: (layer.sgm, layer.shape) for layer in model_of(family).layers}
    assert {path: found[path] for path in LITERAL[family]} == LITERAL[family]


@pytest.mark.parametrize("family", UNETS)
def test_every_layer_is_that_of_diffusers(family):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[family])
        texts = {part: CLIPTextModelWithProjection(CLIPTextConfig(**config)) for part, config in TEXTS[family].items()}
    found = {(layer.part, layer.path): layer.shape for layer in model_of(family).layers}
    real = {(UNET, name): tuple(layer.weight.shape) for name, layer in weighted(unet)}
    for part, text in texts.items():
        real |= {(part, name): tuple(layer.weight.shape) for name, layer in weighted(text) if "embedding" not in name}
    real.pop((TEXT, "text_projection"))  # no pipeline's first encoder has one
    assert found == real


def weighted(root):
    return [(name, layer) for name, layer in root.named_modules() if getattr(layer, "weight", None) is not None]
