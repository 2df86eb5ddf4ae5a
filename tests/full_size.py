"""Stable Diffusions in full size, as names and shapes: models without memory, files with holes instead of weights."""

import json
import math
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny_checkpoints import canonical, prefixed, text_to_open_clip, unet_to_ldm, vae_to_ldm

# As in the configs that are published with the models.
ATTENTION = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
UNETS = {
    "sd1": {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": list(ATTENTION),
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "use_linear_projection": False,
        "transformer_layers_per_block": 1,
    },
    "sd2": {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": list(ATTENTION),
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
        "transformer_layers_per_block": 1,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 32,
}
CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
OPEN_CLIP_H = CLIP_L | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
OPEN_CLIP_G = CLIP_L | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
TEXTS = {
    "sd1": {"text_encoder": CLIP_L},
    "sd2": {"text_encoder": OPEN_CLIP_H},
    "sdxl": {"text_encoder": CLIP_L, "text_encoder_2": OPEN_CLIP_G},
}


def full_size(family: str) -> dict[str, Tensor]:
    """The tensors of a whole checkpoint, on torch's meta device."""
    with torch.device("meta"):
        tensors = unet_to_ldm(UNet2DConditionModel(**UNETS[family]))
        tensors |= prefixed("first_stage_model.", vae_to_ldm(AutoencoderKL(**VAE)))
        if family == "sd2":
            whole = _text(CLIPTextModelWithProjection, OPEN_CLIP_H | {"num_hidden_layers": 24})
            return tensors | prefixed("cond_stage_model.model.", text_to_open_clip(whole))
        clip = canonical(_text(CLIPTextModel, CLIP_L), "text_model.")
        if family == "sd1":
            return tensors | prefixed("cond_stage_model.transformer.", clip)
        tensors |= prefixed("conditioner.embedders.0.transformer.", clip)
        second = text_to_open_clip(_text(CLIPTextModelWithProjection, OPEN_CLIP_G))
        return tensors | prefixed("conditioner.embedders.1.model.", second)


def _text(kind: type, config: dict) -> nn.Module:
    return kind(CLIPTextConfig(**config))


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def write_hollow(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    """Write a sound safetensors file, fp16, whose tensors are holes in the file: zeros that take no room."""
    content: dict = {"__metadata__": metadata} if metadata else {}
    place = 0
    for name, shape in shapes.items():
        end = place + 2 * math.prod(shape)
        content[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(content).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    return path
