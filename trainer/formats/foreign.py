"""Settings of other trainers as settings of ours: a kohya config as TOML or JSON, and what an adapter file tells.

Names are sd-scripts' options; in an adapter's metadata they stand behind `ss_`, some under a name of their own. What
has no counterpart is listed with the reason: nothing is left out without a word.
"""

import ast
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.catalog import CHOICES
from trainer.contract.compose import Layer, compose
from trainer.contract.errors import UserError
from trainer.contract.rules import idle
from trainer.formats.header import read_header

OFF = (None, "", "none", False, "false", 0, "0")
LARGEST = 2**22  # bytes of a file of settings
ALIASES = {  # in metadata or in kohya_ss's own files -> as an option
    "batch_size_per_device": "train_batch_size", "num_epochs": "max_train_epochs", "epoch": "max_train_epochs",
    "optimizer": "optimizer_type", "steps": "max_train_steps", "lr_warmup": "lr_warmup_steps", "num_reg_images": "",
}  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """What was made of a file.

    Attributes:
        layer: for `trainer.contract.compose`.
        taken: (name there, setting here, value here).
        left: (name there, value there, why it has no counterpart).
    """

    layer: Layer
    taken: tuple[tuple[str, str, Any], ...]
    left: tuple[tuple[str, Any, str], ...]


def number(value: Any) -> Any:
    """A number that may be written as text; whole ones as such."""
    found = float(value[0] if isinstance(value, list) and value else value)
    return int(found) if found.is_integer() else found


def truth(value: Any) -> bool:
    """A switch that may be written as text."""
    return str(value).strip().lower() in ("true", "1", "yes", "on")


def switch(value: Any) -> str:
    """A switch as `on` or `off`."""
    return "on" if truth(value) else "off"


def sides(value: Any) -> int:
    """`512,768`, `(512, 768)` or 512: the side of a square of that area."""
    parts = [float(part) for part in str(value).strip("()[] ").split(",")]
    return round(math.sqrt(parts[0] * parts[-1]))


def word(table: Mapping[str, str]) -> Callable[[Any], str]:
    """One of several names, in any case; of dotted and dashed ones the last part."""

    def found(value: Any) -> str:
        name = str(value).partition("(")[0].rpartition(".")[2].lower()
        if name not in table:
            raise ValueError("there is no such thing here")
        return table[name]

    return found


def every(unit: str) -> Callable[[Any], str]:
    """A number of steps or epochs, as `training.save_every` has it."""
    return lambda value: f"{number(value)}{unit}"


OPTIMIZERS = {"adamw": "adamw", **{name: name for name in CHOICES["optimizer.name"]}}
OPTIMIZERS |= {name.replace("_", ""): name for name in CHOICES["optimizer.name"]}
SCHEDULES = {"constant_with_warmup": "constant", **{name: name for name in CHOICES["schedule.name"]}}
LOSSES = {name: name for name in CHOICES["objective.loss"]}
BENDS = {name: name for name in CHOICES["objective.huber_schedule"]}
PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "float": "fp32", "fp32": "fp32"}

Make = Callable[[Any], Any]
ROWS: dict[str, tuple[str, Make]] = {
    "network_dim": ("adapter.rank", number),
    "network_alpha": ("adapter.alpha", lambda value: number(value) or "auto"),
    "network_dropout": ("adapter.dropout", number),
    "learning_rate": ("optimizer.learning_rate", number),
    "unet_lr": ("optimizer.learning_rate", number),  # after learning_rate, which it overrules
    "text_encoder_lr": ("optimizer.text_encoder_learning_rate", number),
    "optimizer_type": ("optimizer.name", word(OPTIMIZERS)),
    "max_grad_norm": ("optimizer.clip_norm", number),
    "lr_scheduler": ("schedule.name", word(SCHEDULES)),
    "lr_warmup_steps": ("schedule.warmup", number),
    "max_train_steps": ("training.steps", number),
    "max_train_epochs": ("training.epochs", number),
    "train_batch_size": ("training.batch_size", number),
    "gradient_accumulation_steps": ("training.accumulation", number),
    "seed": ("training.seed", number),
    "save_every_n_epochs": ("training.save_every", every("ep")),
    "save_every_n_steps": ("training.save_every", every("")),
    "sample_every_n_epochs": ("sampling.every", every("ep")),
    "sample_every_n_steps": ("sampling.every", every("")),
    "validation_split": ("validation.share", number),
    "save_precision": ("export.dtype", word(PRECISIONS)),
    "debiased_estimation_loss": ("objective.weighting", lambda value: "debiased" if truth(value) else "none"),
    "min_snr_gamma": ("objective.snr_gamma", number),
    "noise_offset": ("objective.noise_offset", number),
    "multires_noise_iterations": ("objective.pyramid_iterations", number),
    "multires_noise_discount": ("objective.pyramid_discount", number),
    "ip_noise_gamma": ("objective.input_perturbation", number),
    "loss_type": ("objective.loss", word(LOSSES)),
    "huber_schedule": ("objective.huber_schedule", word(BENDS)),
    "huber_c": ("objective.huber_c", number),
    "huber_scale": ("objective.huber_scale", number),
    "min_timestep": ("objective.min_timestep", number),
    "max_timestep": ("objective.max_timestep", number),
    "v_parameterization": ("model.prediction", lambda value: "v_prediction" if truth(value) else "auto"),
    "zero_terminal_snr": ("model.zero_terminal_snr", switch),
    "clip_skip": ("model.clip_skip", number),
    "resolution": ("dataset.resolution", sides),
    "flip_aug": ("dataset.flip", truth),
    "random_crop": ("dataset.crop", lambda value: "random" if truth(value) else "focus"),
    "shuffle_caption": ("dataset.shuffle", switch),
    "keep_tokens": ("dataset.keep_tokens", number),
    "caption_dropout_rate": ("dataset.caption_dropout", number),
    "caption_tag_dropout_rate": ("dataset.tag_dropout", number),
    "caption_prefix": ("dataset.caption_prefix", str),
    "caption_suffix": ("dataset.caption_suffix", str),
    "max_token_length": ("dataset.caption_chunks", lambda value: number(value) // 75),
    "masked_loss": ("dataset.masks", truth),
    "prior_loss_weight": ("dataset.regularisation_weight", number),
}
NEEDED = ("network_alpha", "flip_aug", "caption_dropout_rate", "shuffle_caption")  # off says something there too

BY_ITSELF = "the engine chooses this by itself, see engine.*"
YOURS = "chosen for each run: base, pictures, names and trigger are yours"
LEFT: dict[str, str] = {
    **dict.fromkeys(
        ("mixed_precision", "full_bf16", "full_fp16", "fp8_base", "gradient_checkpointing", "xformers", "sdpa",
         "mem_eff_attn", "lowram", "highvram", "cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs",
         "no_half_vae",
         "cache_text_encoder_outputs_to_disk", "vae_batch_size", "torch_compile", "max_data_loader_n_workers",
         "persistent_data_loader_workers", "enable_bucket", "bucket_no_upscale", "bucket_reso_steps",
         "min_bucket_reso", "max_bucket_reso", "save_model_as"), BY_ITSELF),
    **dict.fromkeys(
        ("pretrained_model_name_or_path", "train_data_dir", "reg_data_dir", "output_dir", "output_name", "logging_dir",
         "dataset_config", "vae", "sample_prompts", "sd_model_name", "v2", "class_tokens"), YOURS),
}  # fmt: skip
UNKNOWN = "no setting here does this"


def read_foreign(path: Path) -> Foreign:
    """Read settings from a kohya .toml or .json, or from an adapter's .safetensors.

    Raises:
        UserError: it is none of these, or nothing in it is known.
    """
    found = translate(_values(path))
    if not found.taken:
        fix = "Give a config of kohya's sd-scripts or kohya_ss (.toml, .json), or a LoRA file with ss_ metadata."
        raise UserError("no setting in this file is known here", str(path), fix)
    return found


def translate(values: Mapping[str, Any]) -> Foreign:
    """Settings by kohya's names -> ours; a pure function. What is refused here is left, with the reason."""
    taken: dict[str, tuple[str, Any]] = {}
    left: list[tuple[str, Any, str]] = []
    known = {name: values[name] for name in ROWS if name in values}
    for name, value in known.items():
        if _says_nothing(name, value):
            continue
        setting, make = ROWS[name]
        try:
            made = make(value)
            compose([_layer({"dataset.path": "-", setting: made})], "keep")
            taken[setting] = (name, made)
        except (ValueError, TypeError, OverflowError) as error:
            left.append((name, value, str(error) if "here" in str(error) else "this value cannot be read"))
        except UserError as error:
            left.append((name, value, error.problem.splitlines()[0]))
    left += [
        (name, value, LEFT.get(name, UNKNOWN))
        for name, value in values.items()
        if name not in ROWS and value not in OFF and str(value).lower() not in ("none", "false", "")
    ]
    _text_encoder(values, taken)
    _one_length(taken, left)
    _without_effect(taken, left)
    settings = {setting: made for setting, (_, made) in taken.items()}
    return Foreign(_layer(settings), tuple((name, at, made) for at, (name, made) in taken.items()), tuple(left))


def _says_nothing(name: str, value: Any) -> bool:
    empty = value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))
    return empty or (name not in NEEDED and str(value).lower() in ("false", "0", "0.0") and name != "seed")


def _text_encoder(values: Mapping[str, Any], taken: dict[str, tuple[str, Any]]) -> None:
    """It is trained where it has a rate, and nobody says that the UNet alone is."""
    for name, off in (("network_train_unet_only", truth), ("text_encoder_lr", lambda value: value in (0, "0", "0.0"))):
        if off(values.get(name)):
            taken["adapter.text_encoder"] = (name, False)
            return
    if "optimizer.text_encoder_learning_rate" in taken:
        taken["adapter.text_encoder"] = ("text_encoder_lr", True)


def _one_length(taken: dict[str, tuple[str, Any]], left: list[tuple[str, Any, str]]) -> None:
    """sd-scripts lets epochs overrule steps."""
    if "training.epochs" in taken and "training.steps" in taken:
        name, value = taken.pop("training.steps")
        left.append((name, value, "the number of epochs says the length"))


def _without_effect(taken: dict[str, tuple[str, Any]], left: list[tuple[str, Any, str]]) -> None:
    """What would be refused as having no effect."""
    config = compose([_layer({"dataset.path": "-", **{at: made for at, (_, made) in taken.items()}})], "keep")
    for setting, rule in idle(config).items():
        if setting in taken:
            name, value = taken.pop(setting)
            left.append((name, value, f"{setting} counts {rule.words()}"))


def _layer(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    layer: dict[str, dict[str, Any]] = {}
    for setting, value in settings.items():
        section, _, key = setting.partition(".")
        layer.setdefault(section, {})[key] = value
    return layer


def _values(path: Path) -> dict[str, Any]:
    """Names and values of a file, without its sections."""
    if path.suffix.lower() == ".safetensors":
        metadata = read_header(path).metadata
        return dict(_named({key[3:]: value for key, value in metadata.items() if key.startswith("ss_")}))
    try:
        if path.stat().st_size > LARGEST:
            raise UserError("this is too large for a file of settings", str(path), "Give a .toml or .json config.")
        text = path.read_text("utf-8-sig")
        loaded = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"this cannot be read ({error.strerror})", str(path), "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is no file of settings: {error}", str(path), "Give a .toml or .json config.") from None
    if not isinstance(loaded, dict):
        raise UserError("this is no file of settings", str(path), "Give a .toml or .json config.")
    return dict(_named(loaded))


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flat, options by their own names; a list of arguments (`["conv_dim=8"]`) as they are."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif (name := ALIASES.get(key, key)) and not (key in ALIASES and name in values):
            yield name, _literal(value)


def _literal(value: Any) -> Any:
    """Metadata holds text: numbers and None are read."""
    if not isinstance(value, str) or len(value) > 40:
        return value
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return found if isinstance(found, int | float) or found is None else value
