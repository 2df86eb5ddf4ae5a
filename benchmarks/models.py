"""Full-size Stable Diffusion folders with random weights: nothing is downloaded.

    python -m benchmarks.models sd15 FOLDER

Speed and memory depend on shapes, not on what the numbers say; never on zeros, which some cards multiply faster.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.sets import make_tokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


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
        parts: part name -> makes it.
        schedule: beyond the betas.
    """

    pipeline: str
    parts: dict[str, Callable[[], Any]]
    schedule: dict[str, Any]


SIZES = {
    "sd15": Size(
        "StableDiffusionPipeline",
        {
            "unet": lambda: UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64),
            "vae": lambda: vae(0.18215, 512),
            "text_encoder": lambda: CLIPTextModel(clip(768, 12)),
        },
        {},
    ),
    "sd21": Size(
        "StableDiffusionPipeline",
        {
            "unet": lambda: UNet2DConditionModel(sample_size=96, **SD2),
            "vae": lambda: vae(0.18215, 768),
            "text_encoder": lambda: CLIPTextModel(clip(1024, 23, "gelu")),
        },
        {"prediction_type": "v_prediction"},
    ),
    "sdxl": Size(
        "StableDiffusionXLPipeline",
        {
            "unet": lambda: UNet2DConditionModel(**SDXL),
            "vae": lambda: vae(0.13025, 1024),
            "text_encoder": lambda: CLIPTextModel(clip(768, 12)),
            "text_encoder_2": lambda: CLIPTextModelWithProjection(clip(1280, 32, "gelu", 1280)),
        },
        {},
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
        if part.startswith("text"):
            name_as_before(folder / part / "model.safetensors")
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


def name_as_before(file: Path) -> None:
    """Give a text encoder's tensors the names that transformers 4 looks for; transformers 5 reads these too."""
    tensors = load_file(file)
    if not any(name.startswith("text_model.") for name in tensors):
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
        save_file(tensors, file, {"format": "pt"})


if __name__ == "__main__":
    made = make_base(Path(sys.argv[2]), sys.argv[1], "cuda" if torch.cuda.is_available() else "cpu")
    print(made)
