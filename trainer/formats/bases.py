"""Base models on disk, told apart without loading them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.formats.header import refuse_pickle

Prediction = Literal["epsilon", "v_prediction"]

WHERE = "model.base"
ALLOWED = "Give `demo`, a diffusers folder (with model_index.json), or a Hub id such as owner/name."
PIPELINES = {"StableDiffusionPipeline": "sd1", "StableDiffusionXLPipeline": "sdxl"}  # _class_name in model_index.json
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class BaseFacts:
    """What can be told of a base model without loading it.

    Attributes:
        path: a diffusers folder or a single checkpoint file.
        family: name in the catalogue: `sd1`, `sd2`, `sdxl`.
        prediction: what its UNet answers.
        zero_terminal_snr: whether its last timestep is pure noise (arXiv 2305.08891).
    """

    path: Path
    family: str
    prediction: Prediction
    zero_terminal_snr: bool


def find_base(base: str) -> Path | None:
    """Return the diffusers folder of a base model, or None where it is a Hub id that must be fetched.

    Raises:
        UserError: nothing of that name, or a file that cannot be used.
    """
    path = demo_folder() / "base" if base == "demo" else Path(base).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            inside = ", ".join(sorted(item.name for item in path.iterdir())[:6]) or "nothing"
            problem = f"'{base}' is not a diffusers folder: it has no model_index.json (it holds {inside})"
            raise UserError(problem, WHERE, ALLOWED)
        return path
    if path.suffix:
        refuse_pickle(path)
    if path.is_file():
        problem = f"'{base}' is a single file, and single-file checkpoints cannot be trained yet"
        raise UserError(problem, WHERE, ALLOWED)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        return None
    raise UserError(f"there is no base model '{base}'", WHERE, ALLOWED)


def describe_base(path: Path) -> BaseFacts:
    """Tell what a diffusers folder holds.

    Raises:
        UserError: a part of it is missing or broken, or it is of no family that can be trained.
    """
    pipeline = read_json(path, "model_index.json").get("_class_name")
    if pipeline not in PIPELINES:
        raise UserError(f"'{path}' is a {pipeline}", WHERE, f"What can be trained: {known_families()}.")
    unet, schedule = read_json(path, "unet/config.json"), read_json(path, "scheduler/scheduler_config.json")
    channels = unet.get("in_channels", LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        problem = f"the UNet of '{path}' takes {channels} channels: an inpainting or depth model"
        raise UserError(problem, WHERE, f"Give the text-to-image model it was made from ({LATENT_CHANNELS} channels).")
    family = PIPELINES[pipeline]
    if family == "sd1" and read_json(path, "text_encoder/config.json").get("hidden_act") == "gelu":
        family = "sd2"  # OpenCLIP's activation; the CLIP of SD 1.x has quick_gelu
    prediction: Prediction = "v_prediction" if schedule.get("prediction_type") == "v_prediction" else "epsilon"
    return BaseFacts(path, family, prediction, bool(schedule.get("rescale_betas_zero_snr")))


def known_families() -> str:
    """The families that can be trained, for a sentence."""
    return ", ".join(row.title for row in FAMILIES.values())


def check_base(base: str) -> None:
    """Raise UserError for a base that cannot be trained, as far as can be told without fetching or loading it."""
    folder = find_base(base)
    if folder is not None:
        describe_base(folder)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read one config of a diffusers folder.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{name} is missing or broken", str(folder), "Get a complete copy of the model.")
    return content
