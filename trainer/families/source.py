"""The parts of a base model, each loaded when it is asked for, wherever they come from."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import nn

from trainer.contract.errors import UserError
from trainer.device import ran_out
from trainer.families.parts import CPU, INCOMPLETE, Weights, build, modern, read_tensors
from trainer.formats.bases import BaseFacts, read_json, weight_files
from trainer.formats.vocabulary import Tokenizer, read_tokenizer


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

    def files(self, part: str) -> list[Path]:
        """The files that a part's weights are read from."""

    def scheduler(self) -> dict[str, Any]:
        """The noise schedule as diffusers writes it."""

    def tokenizer(self, part: str) -> Tokenizer:
        """`tokenizer` or `tokenizer_2`."""

    def model(self, part: str, dtype: torch.dtype, device: torch.device = CPU) -> nn.Module:
        """`unet`, `vae`, `text_encoder` or `text_encoder_2`: frozen, in evaluation mode, on that device.

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

    def files(self, part: str) -> list[Path]:
        """See `Source`."""
        return weight_files(self.facts.path / part, part)

    def scheduler(self) -> dict[str, Any]:
        """See `Source`."""
        return noise_schedule(read_json(self.facts.path, "scheduler/scheduler_config.json"), self.facts)

    def tokenizer(self, part: str) -> Tokenizer:
        """See `Source`."""
        return _load(self.facts.path, part, read_tokenizer)

    def model(self, part: str, dtype: torch.dtype, device: torch.device = CPU) -> nn.Module:
        """See `Source`."""
        return _load(self.facts.path, part, lambda folder: read_folder(part, folder, dtype, device))


def read_folder(part: str, folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> nn.Module:
    """Load the part that a folder holds: frozen, in evaluation mode, on that device.

    Raises:
        UserError: weights are missing.
        OSError, ValueError, RuntimeError, KeyError, SafetensorError: files are missing or broken.
    """
    weights: Weights = {}
    for file in weight_files(folder, part):
        weights |= read_tensors(file, None, dtype, device)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return build(part, config, modern(weights) if part == "vae" else weights, str(folder))


def noise_schedule(config: dict[str, Any], facts: BaseFacts) -> dict[str, Any]:
    """A scheduler's config with what the facts say, which a user may have set otherwise than the model's files."""
    schedule = config | {"prediction_type": facts.prediction, "rescale_betas_zero_snr": facts.zero_terminal_snr}
    if facts.zero_terminal_snr:  # sampling must begin at the very last timestep (arXiv 2305.08891, section 3.3)
        schedule["timestep_spacing"] = "trailing"
    return schedule


def _load(folder: Path, part: str, read: Callable[[Path], Any]) -> Any:
    """Read one part of a pipeline, saying which one where it fails."""
    if not (folder / part).is_dir():
        raise UserError(f"the folder '{part}' is missing", str(folder), INCOMPLETE)
    with readable(f"'{part}' cannot be read", str(folder), "Get a complete copy with .safetensors weights."):
        return read(folder / part)


@contextmanager
def readable(problem: str, where: str, fix: str) -> Iterator[None]:
    """Say which weights cannot be read where reading them fails within; see `UserError`.

    Raises:
        UserError: they are not there, broken, or of another model.
        RuntimeError: the device ran out of memory: a lower rung of the memory ladder may do.
    """
    try:
        yield
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        if ran_out(error):
            raise
        raise UserError(f"{problem}: {first_line(error)}", where, fix) from error


def first_line(error: Exception) -> str:
    """What an error says, short."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
