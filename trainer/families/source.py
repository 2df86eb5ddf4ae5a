"""The parts of a base model, each loaded when it is asked for, wherever they come from."""

from collections.abc import Callable
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
        said = read_json(self.facts.path, "scheduler/scheduler_config.json")
        facts = {"prediction_type": self.facts.prediction, "rescale_betas_zero_snr": self.facts.zero_terminal_snr}
        return {**said, **facts}

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """See `Source`."""
        return self._load(part, CLIPTokenizer.from_pretrained)

    def model(self, part: str, dtype: torch.dtype) -> nn.Module:
        """See `Source`."""

        def read(path: str) -> nn.Module:
            model, info = CLASSES[part].from_pretrained(
                path, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
            )
            missing = sorted(info["missing_keys"])
            if missing:  # transformers would go on with random weights and a warning
                raise UserError(
                    f"{len(missing)} weights are missing, first {missing[0]}", path, "Get a complete copy of the model."
                )
            return model.requires_grad_(False).eval()

        return self._load(part, read)

    def _load(self, part: str, read: Callable[[str], Any]) -> Any:
        """Read one part, saying which one where it fails."""
        folder = self.facts.path
        if not (folder / part).is_dir():
            raise UserError(f"the folder '{part}' is missing", str(folder), "Get a complete copy of the model.")
        try:
            return read(str(folder / part))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"'{part}' cannot be read: {reason}", str(folder), "Get a complete copy with .safetensors weights."
            ) from error
