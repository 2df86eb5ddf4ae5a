"""A tiny SDXL for tests: every part is of the real class, only the sizes are small and the weights random."""

import json
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny import make_tokenizer, tiny_vae

WIDTHS = (32, 64)  # of the two text encoders; the UNet attends to both, side by side
POOLED, TIME_WIDTH, LAYERS = 48, 8, 2


def make_tiny_sdxl(folder: Path) -> Path:
    """Write a diffusers folder shaped like SDXL, with other numbers of blocks, layers and channels."""
    torch.manual_seed(11)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),  # diffusers reads it as the number of heads
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=POOLED
        + 6 * TIME_WIDTH,  # height, width, crop and target, two numbers each
    )
    vae = tiny_vae(0.13025)
    vocabulary = make_tokenizer(folder / "tokenizer")
    make_tokenizer(folder / "tokenizer_2", padding="!")
    models = {
        "unet": unet,
        "vae": vae,
        "text_encoder": CLIPTextModel(_text_config(vocabulary, WIDTHS[0], "quick_gelu")),
        "text_encoder_2": CLIPTextModelWithProjection(_text_config(vocabulary, WIDTHS[1], "gelu")),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name, safe_serialization=True)
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(_index()))
    return folder


def _text_config(vocabulary: int, width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act=activation,
        projection_dim=POOLED,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def _index() -> dict[str, object]:
    return {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.1",
        "force_zeros_for_empty_prompt": True,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
