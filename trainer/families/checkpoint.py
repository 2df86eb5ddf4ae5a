"""The parts of a single-file checkpoint in the original layout, each read when it is asked for.

Name maps are those of diffusers; configs come from `trainer.formats.architecture`. Nothing is fetched.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import nn

from trainer.contract.errors import UserError
from trainer.families.parts import CPU, Weights, build, modern, read_tensors, refuse_strange
from trainer.families.source import first_line, noise_schedule, readable
from trainer.formats.architecture import CLIP, config_of
from trainer.formats.bases import BaseFacts
from trainer.formats.checkpoint import UNET, read_checkpoint
from trainer.formats.vocabulary import END, VOCABULARY, Tokenizer, clip_tokenizer, read_tokenizer

# As in the configs published with the models of every family; the rest is in the facts.
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
PADS = {("sd2", "tokenizer"): "!", ("sdxl", "tokenizer_2"): "!"}  # OpenCLIP pads with token 0, CLIP with its end token


class CheckpointSource:
    """See `Source`: one `.safetensors` file.

    Raises:
        UserError: the file is no checkpoint that can be trained.
    """

    def __init__(self, facts: BaseFacts) -> None:
        self.facts, self.name = facts, ""
        self.checkpoint = read_checkpoint(facts.path)

    def files(self, part: str) -> list[Path]:
        """See `Source`."""
        return [self.facts.path]

    def scheduler(self) -> dict[str, Any]:
        """See `Source`."""
        return noise_schedule(SCHEDULER, self.facts)

    def tokenizer(self, part: str) -> Tokenizer:
        """See `Source`. CLIP's own, or that of a folder beside the file for a text encoder with other tokens."""
        size = self.config(part.replace("tokenizer", "text_encoder"))["vocab_size"]
        if size == VOCABULARY:
            return clip_tokenizer(PADS.get((self.facts.family, part), END))
        return fitting_tokenizer(self.facts.path.parent / part, size)

    def model(self, part: str, dtype: torch.dtype, device: torch.device = CPU) -> nn.Module:
        """See `Source`."""
        config = self.config(part)
        with readable(f"the {part} cannot be read", str(self.facts.path), "Get a complete copy of the checkpoint."):
            weights = read_tensors(self.facts.path, self.checkpoint.names(part), dtype, device)
            return convert(part, config, weights, str(self.facts.path))

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`. Inferred from the shapes."""
        return config_of(self.checkpoint, part, self.facts.prediction)


def fitting_tokenizer(folder: Path, size: int) -> Tokenizer:
    """Read the tokenizer of a text encoder with `size` tokens.

    Raises:
        UserError: it is missing, broken or of another size.
    """
    fix = f"Put the folder '{folder.name}' of the model (vocab.json, merges.txt) beside the checkpoint."
    if not folder.is_dir():
        problem = f"the text encoder has {size} tokens, not CLIP's {VOCABULARY}, and its tokenizer is not there"
        raise UserError(problem, str(folder), fix)
    try:
        tokenizer = read_tokenizer(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the tokenizer cannot be read: {first_line(error)}", str(folder), fix) from error
    if len(tokenizer) > size:
        problem = f"the tokenizer has {len(tokenizer)} tokens and the text encoder {size}: they do not belong together"
        raise UserError(problem, str(folder), fix)
    return tokenizer


def convert(part: str, config: dict[str, Any], weights: Weights, where: str) -> nn.Module:
    """Make a part of weights under their original names; see `trainer.families.parts.build`.

    Args:
        part: `unet`, `vae`, `text_encoder` or `text_encoder_2`.
        config: of diffusers, or of transformers for a text encoder.
        weights: by names within the part. The dict is emptied on the way.
        where: the file, for errors.

    Raises:
        UserError: a weight is missing, is of another shape, or has no place in the UNet.
        KeyError: a tensor that the name maps count on is missing.
    """
    count = len(weights)
    found = _CONVERTERS.get(part, _convert_text)(weights, config)
    weights.clear()
    if part == "unet" and len(found) != count:
        refuse_strange(f"{count - len(found)} tensors", where)
    return build(part, config, found, where)


def _convert_unet(weights: Weights, config: dict[str, Any]) -> Weights:
    return convert_ldm_unet_checkpoint({UNET + name: tensor for name, tensor in weights.items()}, config)


def _convert_vae(weights: Weights, config: dict[str, Any]) -> Weights:
    """LDM's names, or diffusers' of any age -> diffusers'."""
    if any(name.startswith("encoder.down_blocks.") for name in weights):
        return modern(weights)
    return convert_ldm_vae_checkpoint(weights, config)


def _convert_text(weights: Weights, config: dict[str, Any]) -> Weights:
    """CLIP's or OpenCLIP's names -> transformers' without `text_model.`."""
    if CLIP.tokens in weights:
        return dict(weights)
    # The converter asks its model for the hidden size only where there is no projection to tell it.
    holder = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
    found = convert_open_clip_checkpoint(holder, weights, prefix="")
    return {name: tensor.contiguous() for name, tensor in found.items()}


_CONVERTERS: Mapping[str, Callable[[Weights, dict[str, Any]], Weights]] = {
    "unet": _convert_unet,
    "vae": _convert_vae,
}
