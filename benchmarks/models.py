"""Full-size Stable Diffusion folders with random weights, and pictures of noise: nothing is downloaded.

Speed and memory depend on shapes, not on what the numbers say; never on zeros, which some cards multiply faster.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPECIAL = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}


def clip(width: int, layers: int, act: str = "quick_gelu", projection: int = 512) -> CLIPTextConfig:
    """A CLIP text encoder of the real vocabulary."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=projection,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )


def vae(scaling: float, side: int) -> AutoencoderKL:
    """The VAE that all three families have."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=side,
        scaling_factor=scaling,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


SD2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@dataclass(frozen=True)
class Size:
    """A model as people use it.

    Attributes:
        pipeline: its class in diffusers.
        side: in pixels.
        parts: part name -> makes it.
        schedule: beyond the betas.
        tflop: of one picture's forward and input-gradient backward, rank 16, counted by torch's FlopCounterMode.
    """

    pipeline: str
    side: int
    parts: dict[str, Callable[[], Any]]
    schedule: dict[str, Any]
    tflop: float


SIZES = {
    "sd15": Size(
        "StableDiffusionPipeline",
        512,
        {
            "unet": lambda: UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64),
            "vae": lambda: vae(0.18215, 512),
            "text_encoder": lambda: CLIPTextModel(clip(768, 12)),
        },
        {},
        1.81,
    ),
    "sd21": Size(
        "StableDiffusionPipeline",
        768,
        {
            "unet": lambda: UNet2DConditionModel(sample_size=96, **SD2),
            "vae": lambda: vae(0.18215, 768),
            "text_encoder": lambda: CLIPTextModel(clip(1024, 23, "gelu")),
        },
        {"prediction_type": "v_prediction"},
        5.22,
    ),
    "sdxl": Size(
        "StableDiffusionXLPipeline",
        1024,
        {
            "unet": lambda: UNet2DConditionModel(**SDXL),
            "vae": lambda: vae(0.13025, 1024),
            "text_encoder": lambda: CLIPTextModel(clip(768, 12)),
            "text_encoder_2": lambda: CLIPTextModelWithProjection(clip(1280, 32, "gelu", 1280)),
        },
        {},
        14.74,
    ),
}


def make_base(folder: Path, name: str, device: str) -> Path:
    """Write a diffusers folder in fp16, unless it is there."""
    if (folder / "model_index.json").exists():
        return folder
    size = SIZES[name]
    index: dict[str, Any] = {"_class_name": size.pipeline, "_diffusers_version": "0.42.1"}
    for part, make in size.parts.items():
        torch.manual_seed(0)
        with torch.device(device):
            model = make()
        model.half().save_pretrained(folder / part)
        library = "transformers" if part.startswith("text") else "diffusers"
        index[part] = [library, type(model).__name__]
        if part.startswith("text"):
            tokenizer = part.replace("text_encoder", "tokenizer")
            make_tokenizer(folder / tokenizer)
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
        del model
    schedule = DDIMScheduler(**BETAS, **size.schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    schedule.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def make_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer of the real size that knows single bytes only; the rest of the vocabulary is filler."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in shown] + [chr(256 + index) for index in range(256 - len(shown))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"filler{index}" for index in range(49406 - len(tokens))] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **SPECIAL}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_pictures(folder: Path, count: int, sides: list[tuple[int, int]]) -> Path:
    """Write noise pictures with captions, of these sizes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize(sides[index % len(sides)], Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a picture number {index}")
    return folder
