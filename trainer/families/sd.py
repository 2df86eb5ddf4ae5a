"""Stable Diffusion 1.x: a UNet with cross-attention to one CLIP text encoder, in diffusers folder layout.

The embedded base and a real SD 1.5 take the same path. Shapes as in `trainer.protocols`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from trainer.contract.errors import UserError
from trainer.device import Engine
from trainer.protocols import Posterior, Target

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
UNET_TARGETS = {
    "attention": ATTENTION,
    "attention+ff": ATTENTION + FEED_FORWARD,
    "transformer": ATTENTION + FEED_FORWARD + PROJECTIONS,  # what kohya trains: 192 modules of an SD 1.5
}
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
DEMO_NAME = "lora-atelier-demo"

disable_progress_bar()  # its bar for 40 tensors hides ours


class StableDiffusion:
    """See `trainer.protocols.Family`."""

    def __init__(self, folder: Path, engine: Engine, name: str) -> None:
        self.engine = engine
        self.tokenizer = _load(folder, "tokenizer", CLIPTokenizer.from_pretrained)
        self.text_encoder = _model(folder, "text_encoder", CLIPTextModel, engine)
        self.unet = _model(folder, "unet", UNet2DConditionModel, engine)
        # Small next to the UNet, used once per picture, and fp16 overflows in some of them: it stays in fp32.
        self.vae = _model(folder, "vae", AutoencoderKL, Engine(engine.device, torch.float32, engine.threads))
        self.parts: dict[str, nn.Module] = {"unet": self.unet, "text_encoder": self.text_encoder}
        self.scheduler: dict[str, Any] = _load(folder, "scheduler", _scheduler_config)
        self.prediction = self.scheduler.get("prediction_type", "epsilon")
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.resolution = self.unet.config.sample_size * self.factor
        self.step = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        own = json.loads((folder / "model_index.json").read_text("utf-8")).get("_name_or_path")
        self.base_version, self.base_name = (DEMO_NAME, DEMO_NAME) if own == DEMO_NAME else ("sd_v1", name)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> [B, L] token ids, cut and padded to the tokenizer's length."""
        length = self.tokenizer.model_max_length
        return self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """[B, L] -> [B, L, D]: the last hidden state, after the final norm."""
        return self.text_encoder(tokens.to(self.engine.device)).last_hidden_state

    @torch.no_grad()
    def encode_picture(self, pixels: Tensor) -> Posterior:
        """[3, H, W] in -1..1 -> its posterior, scaled as the UNet expects."""
        distribution = self.vae.encode(pixels[None].to(self.engine.device)).latent_dist
        factor = self.vae.config.scaling_factor
        return Posterior(distribution.mean[0] * factor, distribution.std[0] * factor)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, H, W] in -1..1."""
        return self.vae.decode(latents.float() / self.vae.config.scaling_factor).sample.clamp(-1, 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The UNet's answer, [B, C, h, w]."""
        return self.unet(noisy.to(self.engine.dtype), timesteps, text.to(self.engine.dtype), return_dict=False)[0]

    def targets(self, preset: str, text_encoder: bool) -> list[Target]:
        """Layers of a target preset, in the order of the model."""
        found = [
            Target("unet", path)
            for path in _paths(self.unet, UNET_TARGETS[preset])
            if "transformer_blocks" in path or "attentions" in path
        ]
        if text_encoder:
            found += [Target("text_encoder", path) for path in _paths(self.text_encoder, TEXT_TARGETS)]
        return found

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of that size in pixels."""
        return self.unet.config.in_channels, height // self.factor, width // self.factor


def load(folder: Path, engine: Engine, name: str) -> StableDiffusion:
    """Load a diffusers folder; `name` is what people call it.

    Raises:
        UserError: a part is missing, broken or of another shape.
    """
    return StableDiffusion(folder, engine, name)


def _paths(root: nn.Module, endings: Sequence[str]) -> list[str]:
    suffixes = tuple(f".{ending}" for ending in endings)
    return [
        path
        for path, module in root.named_modules()
        if path.endswith(suffixes) and isinstance(module, nn.Linear | nn.Conv2d)
    ]


def _model(folder: Path, part: str, kind: Any, engine: Engine) -> Any:
    def read(path: str) -> nn.Module:
        model, info = kind.from_pretrained(
            path, torch_dtype=engine.dtype, use_safetensors=True, output_loading_info=True
        )
        missing = sorted(info["missing_keys"])
        if missing:  # transformers would go on with random weights and a warning
            raise UserError(
                f"{len(missing)} weights are missing, first {missing[0]}", path, "Get a complete copy of the model."
            )
        return model.requires_grad_(False).eval().to(engine.device)

    return _load(folder, part, read)


def _load(folder: Path, part: str, read: Callable[[str], Any]) -> Any:
    """Read one part of a pipeline, saying which one where it fails."""
    path = folder / part
    if not path.is_dir():
        raise UserError(f"the folder '{part}' is missing", str(folder), "Get a complete copy of the model.")
    try:
        return read(str(path))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"'{part}' cannot be read: {reason}", str(folder), "Get a complete copy with .safetensors weights."
        ) from error


def _scheduler_config(path: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(path) / "scheduler_config.json").read_text("utf-8"))
    return config
