"""The parts of a base model, each loaded when it is asked for, wherever they come from."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from trainer.contract.errors import UserError
from trainer.formats.bases import BaseFacts, read_json

CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}

disable_progress_bar()  # its bar for 40 tensors hides ours


class Source(Protocol):
    """Where the parts of a base come from: a diffusers folder or a checkpoint file.

    Attributes:
        facts: what was told of it without loading.
        name: what the base calls itself; empty where it says nothing.
    """

    facts: BaseFacts
    name: str

    def config(self, part: str) -> dict[str, Any]:
        """The config of `unet`, `vae`, ... as diffusers writes it, read without the weights."""

    def scheduler(self) -> dict[str, Any]:
        """The noise schedule as diffusers writes it."""

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """`tokenizer` or `tokenizer_2`."""

    def model(self, part: str, dtype: torch.dtype) -> nn.Module:
        """`unet`, `vae`, `text_encoder` or `text_encoder_2`: frozen, in evaluation mode, on the CPU.

        Raises:
            UserError: the part is missing, broken, or not whole.
        """


class FolderSource:
    """See `Source`: a diffusers folder."""

    def __init__(self, facts: BaseFacts) -> None:
        self.facts = facts
        self.name = read_json(facts.path, "model_index.json").get("_name_or_path", "")

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return read_json(self.facts.path, f"{part}/config.json")

    def scheduler(self) -> dict[str, Any]:
        """See `Source`."""
        return noise_schedule(read_json(self.facts.path, "scheduler/scheduler_config.json"), self.facts)

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """See `Source`."""
        return _load(self.facts.path, part, CLIPTokenizer.from_pretrained)

    def model(self, part: str, dtype: torch.dtype) -> nn.Module:
        """See `Source`."""
        return _load(self.facts.path, part, lambda folder: read_folder(part, folder, dtype))


def read_folder(part: str, folder: str, dtype: torch.dtype) -> nn.Module:
    """Load the part that a folder holds: frozen, in evaluation mode, on the CPU.

    Raises:
        UserError: weights are missing.
        OSError, ValueError, RuntimeError, KeyError: as the libraries raise them.
    """
    model, info = CLASSES[part].from_pretrained(
        folder, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    refuse_missing(info["missing_keys"], folder)  # transformers would go on with random weights and a warning
    return model.requires_grad_(False).eval()


def refuse_missing(names: Iterable[str], where: str) -> None:
    """Raise UserError if there is a name of a missing weight."""
    missing = sorted(names)
    if missing:
        problem = f"{len(missing)} weights are missing, first {missing[0]}"
        raise UserError(problem, where, "Get a complete copy of the model.")


def noise_schedule(config: dict[str, Any], facts: BaseFacts) -> dict[str, Any]:
    """A scheduler's config with what the facts say, which a user may have set otherwise than the model's files."""
    schedule = config | {"prediction_type": facts.prediction, "rescale_betas_zero_snr": facts.zero_terminal_snr}
    if facts.zero_terminal_snr:  # sampling must begin at the very last timestep (arXiv 2305.08891, section 3.3)
        schedule["timestep_spacing"] = "trailing"
    return schedule


def _load(folder: Path, part: str, read: Callable[[str], Any]) -> Any:
    """Read one part of a pipeline, saying which one where it fails."""
    if not (folder / part).is_dir():
        raise UserError(f"the folder '{part}' is missing", str(folder), "Get a complete copy of the model.")
    try:
        return read(str(folder / part))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        problem = f"'{part}' cannot be read: {first_line(error)}"
        raise UserError(problem, str(folder), "Get a complete copy with .safetensors weights.") from error


def first_line(error: Exception) -> str:
    """What an error says, short."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
