"""The parts of a single-file checkpoint in the original layout, each read when it is asked for.

Name maps are those of diffusers; configs come from `trainer.formats.architecture`. Nothing is fetched.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTokenizer

from trainer.contract.errors import UserError
from trainer.families.source import CLASSES, first_line, noise_schedule, refuse_missing
from trainer.families.vocabulary import VOCABULARY, clip_tokenizer, read_tokenizer
from trainer.formats.architecture import CLIP, config_of
from trainer.formats.bases import BaseFacts
from trainer.formats.checkpoint import UNET, read_checkpoint

Weights = dict[str, Tensor]

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

# The attention in the middle of a VAE, as diffusers named it until 0.15 and still reads it.
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


class CheckpointSource:
    """See `Source`: one `.safetensors` file.

    Raises:
        UserError: the file is no checkpoint that can be trained.
    """

    def __init__(self, facts: BaseFacts) -> None:
        self.facts, self.name = facts, ""
        self.checkpoint = read_checkpoint(facts.path)

    def scheduler(self) -> dict[str, Any]:
        """See `Source`."""
        return noise_schedule(SCHEDULER, self.facts)

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """See `Source`. CLIP's own, or that of a folder beside the file for a text encoder with other tokens."""
        size = self.config(part.replace("tokenizer", "text_encoder"))["vocab_size"]
        if size == VOCABULARY:
            return clip_tokenizer(PADS.get((self.facts.family, part)))
        return read_tokenizer(self.facts.path.parent / part, size)

    def model(self, part: str, dtype: torch.dtype) -> nn.Module:
        """See `Source`."""
        config = self.config(part)
        try:
            weights = read_tensors(self.facts.path, self.checkpoint.names(part), dtype)
            return build(part, config, weights, str(self.facts.path))
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
            problem = f"the {part} cannot be read: {first_line(error)}"
            raise UserError(problem, str(self.facts.path), "Get a complete copy of the checkpoint.") from error

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`. Inferred from the shapes."""
        return config_of(self.checkpoint, part, self.facts.prediction)


def read_tensors(path: Path, names: Mapping[str, str], dtype: torch.dtype) -> Weights:
    """Read tensors by the names they shall have -> names in the file; no others are read.

    They are copies: the file may be replaced while they are in use.
    """
    with safe_open(path, "pt") as file:
        return {short: file.get_tensor(name).to(dtype, copy=True) for short, name in names.items()}


def build(part: str, config: dict[str, Any], weights: Weights, where: str) -> nn.Module:
    """Make a model of weights under their original names: frozen, in evaluation mode, on the CPU.

    Args:
        part: `unet`, `vae`, `text_encoder` or `text_encoder_2`.
        config: of diffusers, or of transformers for a text encoder.
        weights: by names within the part. The dict is emptied on the way.
        where: the file, for errors.

    Raises:
        UserError: a weight is missing, is of another shape, or has no place in the UNet.
        KeyError: a tensor that the name maps count on is missing.
    """
    kind = CLASSES[part]
    with init_empty_weights():
        model = kind(CLIPTextConfig(**config)) if part.startswith("text_encoder") else kind.from_config(config)
    count = len(weights)
    found = _CONVERTERS.get(part, _convert_text)(weights, config)
    weights.clear()
    if part == "unet" and len(found) != count:
        _refuse_strange(f"{count - len(found)} tensors", where)
    # CLIPTextModel lost `text_model.` in transformers 5; CLIPTextModelWithProjection kept it.
    expected = {name.removeprefix("text_model."): (name, tensor.shape) for name, tensor in model.state_dict().items()}
    refuse_missing(expected.keys() - found.keys(), where)
    if part == "unet" and (strange := sorted(found.keys() - expected.keys())):
        _refuse_strange(strange[0], where)
    for short, (_, shape) in expected.items():
        if found[short].shape != shape:
            problem = f"{short} in the {part} has sizes {tuple(found[short].shape)}, not {tuple(shape)}"
            raise UserError(problem, where, "Get a complete copy of the checkpoint.")
    model.load_state_dict({name: found[short] for short, (name, _) in expected.items()}, assign=True)
    return model.requires_grad_(False).eval()


def _refuse_strange(what: str, where: str) -> None:
    """Leaving out a part of a UNet would train another model than the file is."""
    problem = f"the UNet holds more than a Stable Diffusion's: {what} would be left out"
    raise UserError(problem, where, "Give the checkpoint it was made from.")


def _convert_unet(weights: Weights, config: dict[str, Any]) -> Weights:
    return convert_ldm_unet_checkpoint({UNET + name: tensor for name, tensor in weights.items()}, config)


def _convert_vae(weights: Weights, config: dict[str, Any]) -> Weights:
    """LDM's names, or diffusers' of any age -> diffusers'."""
    if any(name.startswith("encoder.down_blocks.") for name in weights):
        return {_OLD_ATTENTION.sub(lambda match: _NEW_ATTENTION[match[1]], name): at for name, at in weights.items()}
    return convert_ldm_vae_checkpoint(weights, config)


def _convert_text(weights: Weights, config: dict[str, Any]) -> Weights:
    """CLIP's or OpenCLIP's names -> transformers' without `text_model.`."""
    if CLIP.tokens in weights:
        return dict(weights)
    # The converter asks its model for the hidden size only where there is no projection to tell it.
    holder = nn.Module()
    holder.config = CLIPTextConfig(**config)
    found = convert_open_clip_checkpoint(holder, weights, prefix="")
    return {name.removeprefix("text_model."): tensor.contiguous() for name, tensor in found.items()}


_CONVERTERS: Mapping[str, Callable[[Weights, dict[str, Any]], Weights]] = {
    "unet": _convert_unet,
    "vae": _convert_vae,
}
