"""Base models on disk, told apart without loading them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.formats.architecture import config_of
from trainer.formats.checkpoint import (
    LATENT_CHANNELS,
    WHERE,
    Prediction,
    known_families,
    prediction_of,
    read_checkpoint,
    refuse_inputs,
)
from trainer.formats.header import read_header, refuse_pickle

ALLOWED = (
    "Give `demo`, a diffusers folder (with model_index.json), a .safetensors checkpoint, or a Hub id such as "
    "owner/name or owner/name/file.safetensors."
)
WHOLE = "Get a complete copy of the model."
HUB_ID = re.compile(
    r"(?P<repository>\w[\w.-]*/(?![\w.-]+\.safetensors$)[\w.-]+)(?:/(?P<file>[\w./ +()-]+\.safetensors))?"
)
PIPELINES = {"StableDiffusionPipeline": "sd1", "StableDiffusionXLPipeline": "sdxl"}  # _class_name in model_index.json


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

    def describe(self) -> str:
        """One line for people, such as "Stable Diffusion XL, v-prediction, zero terminal SNR, one file"."""
        words = [FAMILIES[self.family].title, f"{self.prediction.removesuffix('_prediction')}-prediction"]
        words += ["zero terminal SNR"] * self.zero_terminal_snr
        return ", ".join([*words, "one file" if self.path.is_file() else "diffusers folder"])


def find_base(base: str) -> Path | None:
    """Return the folder or file of a base model, or None where it is a Hub id that must be fetched.

    Raises:
        UserError: nothing of that name, or something that is no base model by its name or its surroundings.
    """
    if not base.strip():
        raise UserError("no base model is given", WHERE, ALLOWED)
    try:
        path = _on_this_machine(base)
    except (OSError, RuntimeError) as error:  # a name too long for a file, somebody's home that is none
        raise UserError(f"'{base[:80]}' cannot be a path: {error}", WHERE, ALLOWED) from error
    if path is not None:
        return path
    if HUB_ID.fullmatch(base):
        return None
    raise UserError(f"there is no base model '{base}'", WHERE, ALLOWED)


def _on_this_machine(base: str) -> Path | None:
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
        return path
    return None


def describe_base(path: Path) -> BaseFacts:
    """Tell what a diffusers folder or a single-file checkpoint holds; of a file, the header is read.

    Raises:
        UserError: a part of it is missing or broken, or it is of no family that can be trained.
    """
    return _describe_file(path) if path.is_file() else _describe_folder(path)


def check_base(base: str) -> None:
    """Raise UserError for a base that cannot be trained, as far as can be told without fetching or loading it."""
    path = find_base(base)
    if path is not None:
        describe_base(path)


def preset_shelf(base: str) -> str:
    """Return the folder of the presets that fit a base; where nothing can be told of it yet, its name decides."""
    if base == "demo":
        return "demo"
    try:
        path = find_base(base)
        if path is not None:
            return FAMILIES[describe_base(path).family].shelf
    except UserError:
        return "sd"  # it is still being typed, or will be refused in full where the run starts
    return "sdxl" if "xl" in base.lower() else "sd"


def _describe_file(path: Path) -> BaseFacts:
    checkpoint = read_checkpoint(path)
    prediction, zero_terminal_snr = prediction_of(checkpoint)
    for part in checkpoint.parts():
        if part != "vae" or checkpoint.names(part):  # a file without a VAE can be used with one beside it
            config_of(checkpoint, part, prediction)
    return BaseFacts(path, checkpoint.family, prediction, zero_terminal_snr)


def _describe_folder(path: Path) -> BaseFacts:
    pipeline = read_json(path, "model_index.json").get("_class_name")
    if not isinstance(pipeline, str):
        raise UserError("model_index.json is broken: it names no pipeline", str(path), WHOLE)
    if pipeline not in PIPELINES:
        raise UserError(f"'{path}' is a {pipeline}", WHERE, f"What can be trained: {known_families()}.")
    unet, schedule = read_json(path, "unet/config.json"), read_json(path, "scheduler/scheduler_config.json")
    refuse_inputs(unet.get("in_channels", LATENT_CHANNELS), path.name)
    said = schedule.get("prediction_type", "epsilon")
    prediction = next((known for known in get_args(Prediction) if known == said), None)
    if "beta_start" not in schedule or prediction is None:
        problem = f"'{path.name}' was trained on another noise schedule ({schedule.get('_class_name')}, {said})"
        raise UserError(problem, WHERE, f"What can be trained: {known_families()}, predicting epsilon or v.")
    family = PIPELINES[pipeline]
    if family == "sd1" and read_json(path, "text_encoder/config.json").get("hidden_act") == "gelu":
        family = "sd2"  # OpenCLIP's activation; the CLIP of SD 1.x has quick_gelu
    _check_parts(path, family)
    return BaseFacts(path, family, prediction, bool(schedule.get("rescale_betas_zero_snr")))


def _check_parts(folder: Path, family: str) -> None:
    """Look at the headers of all weights: a run meets them one by one, the UNet's after long work."""
    encoders = ("text_encoder", "text_encoder_2") if family == "sdxl" else ("text_encoder",)
    own_vae = (folder / "vae").is_dir()  # a folder without one can be used with one beside it
    for part in ("unet", *encoders, *("vae",) * own_vae):
        for file in weight_files(folder / part, part):
            if not file.is_file():
                problem = f"{part}/{file.name} is missing"
                raise UserError(problem, str(folder), "Get a complete copy with .safetensors weights.")
            read_header(file)
    channels = read_json(folder, "vae/config.json").get("latent_channels", LATENT_CHANNELS) if own_vae else 0
    if channels not in (0, LATENT_CHANNELS):
        problem = f"its VAE has {channels} latent channels, and the UNet works with {LATENT_CHANNELS}"
        raise UserError(problem, str(folder), "Get the model with its own VAE.")


def weight_files(folder: Path, part: str) -> list[Path]:
    """The file of a part's weights, or all that its index names; of the fp16 variant where there is nothing else."""
    stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
    whole = folder / f"{stem}.safetensors"
    for index, file in (
        (folder / f"{stem}.safetensors.index.json", whole),
        (folder / f"{stem}.safetensors.index.fp16.json", folder / f"{stem}.fp16.safetensors"),
    ):
        if index.is_file():
            names = read_json(folder, index.name).get("weight_map")
            if not isinstance(names, dict) or not names:
                raise UserError(f"{index.name} is broken: it names no files", str(folder), WHOLE)
            return [folder / name for name in sorted(set(map(str, names.values())))]
        if file.is_file():
            return [file]
    return [whole]


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
        raise UserError(f"{name} is missing or broken", str(folder), WHOLE)
    return content
