"""Tiny real models for tests: every part is of the real class, only the sizes are small and the weights random."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from trainer.formats.vocabulary import byte_alphabet

WIDTH, HEADS, LAYERS = 32, 2, 2


def make_tiny_sd(folder: Path, linear: bool = False) -> Path:
    """Write a diffusers folder shaped like Stable Diffusion 1.5, with other sizes.

    Args:
        folder: where to.
        linear: proj_in and proj_out as linear layers instead of 1x1 convolutions.
    """
    torch.manual_seed(7)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        use_linear_projection=linear,
    )
    vae = tiny_vae()
    vocabulary = make_tokenizer(folder / "tokenizer")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=77,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
    for name, model in {"unet": unet, "vae": vae, "text_encoder": text}.items():
        model.save_pretrained(folder / name, safe_serialization=True)
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "requires_safety_checker": False,
        **parts,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tiny_vae(scaling_factor: float = 0.18215) -> AutoencoderKL:
    """A VAE that makes pictures eight times as small."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
        scaling_factor=scaling_factor,
    )


def make_tokenizer(folder: Path, padding: str = "<|endoftext|>") -> int:
    """Write a CLIP tokenizer that knows single bytes only; return the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = byte_alphabet()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": padding,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special})
    )
    return len(tokens)


def make_pictures(folder: Path, count: int = 6, size: tuple[int, int] = (64, 64)) -> Path:
    """Write coloured pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        colour = (40 * index % 256, 90, 255 - 40 * index % 256)
        image = Image.new("RGB", size, colour)
        image.paste((255, 255, 0), (8, 8, 24 + 4 * index, 40))
        image.save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a picture number {index}")
    return folder
