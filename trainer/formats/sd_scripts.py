"""The options of kohya's sd-scripts, kohya_ss and LyCORIS: what each is as settings here, and why some are nothing.

An option is a row: a function of its value that gives settings, by `section.key`. Where two rows give the same setting
the later one counts, as it does there.
"""

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.contract.catalog import CHOICES

Settings = dict[str, Any]
Row = Callable[[Any], Settings]


class NoCounterpart(ValueError):
    """A value that nothing here stands for; says why."""


def literal(text: Any) -> Any:
    """A value that may be written as text: numbers, truths, None and lists of them are read, the rest stays text."""
    if not isinstance(text, str) or len(text) > 200:
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def number(value: Any) -> Any:
    """A number that may be written as text; whole ones as such."""
    found = float(value[0] if isinstance(value, list | tuple) and value else value)
    if not math.isfinite(found):
        raise ValueError("no number")
    return int(found) if found.is_integer() else found


def numbers(value: Any) -> list[Any]:
    """`1e-4,5e-5`, `[1e-4, 5e-5]`, or one number."""
    found = [part for part in value.strip("()[] ").split(",") if part.strip()] if isinstance(value, str) else value
    return [number(part) for part in (found if isinstance(found, list | tuple) else [found])]


def truth(value: Any) -> bool:
    """A switch that may be written as text."""
    return str(value).strip().lower() in ("true", "1", "yes", "on")


def switch(value: Any) -> str:
    """A switch as `on` or `off`."""
    return "on" if truth(value) else "off"


def side(value: Any) -> int:
    """`512,768`, `(512, 768)` or 512: the side of a square of that area."""
    parts = numbers(value)
    found = round(math.sqrt(parts[0] * parts[-1]))
    if found < 64:
        raise NoCounterpart("a side of less than 64 pixels is none here")
    return found


def span(value: Any) -> float:
    """A number of steps, or a share of all: `50`, `0.1`, `10%`."""
    text = str(value).strip()
    return float(text[:-1]) / 100 if text.endswith("%") else float(number(value))


def one(setting: str, make: Callable[[Any], Any]) -> Row:
    """A row of one setting."""
    return lambda value: {setting: make(value)}


def among(table: Mapping[str, Settings]) -> Row:
    """A row of names, in any case; of dotted ones the last part."""

    def found(value: Any) -> Settings:
        name = str(value).rpartition(".")[2].strip().lower()
        if name not in table:
            raise NoCounterpart("there is no such thing here")
        return table[name]

    return found


def names(setting: str, known: Mapping[str, str] | Sequence[str]) -> Row:
    """A row of names for one setting."""
    meant = known if isinstance(known, Mapping) else {name: name for name in known}
    return among({name.lower(): {setting: value} for name, value in meant.items()})


def only_if(settings: Settings) -> Row:
    """A switch that says something where it is on, and is not asked where it is off."""

    def on(value: Any) -> Settings:
        if not truth(value):
            raise ValueError("no switch")
        return settings

    return on


def every(setting: str, unit: str) -> Row:
    """A number of steps or epochs, as `training.save_every` has it."""
    return one(setting, lambda value: f"{number(value)}{unit}")


def encoder_rates(value: Any) -> Settings:
    """A rate for each text encoder, or one for all; they are trained where one is above 0."""
    rates, section = numbers(value), "optimizer"
    if not any(rates):
        return {"adapter.text_encoder": False}
    keys = ("text_encoder_learning_rate", "text_encoder_2_learning_rate")
    if len(rates) > len(keys):
        raise NoCounterpart("there are at most two text encoders here")
    return {f"{section}.{key}": rate for key, rate in zip(keys, rates, strict=False)} | {"adapter.text_encoder": True}


def optimizer(value: Any) -> Settings:
    """Of sd-scripts' own names one of ours, or the dotted name of a class."""
    try:
        return OPTIMIZER(value)
    except NoCounterpart:
        if "." not in str(value).strip("."):
            raise
        return {"optimizer.name": str(value).strip()}


def convolutions(value: Any) -> Settings:
    """A rank for 3x3 convolutions; 0 leaves them out."""
    rank = number(value)
    return {"adapter.conv_rank": rank, "adapter.targets": "everything"} if rank else {"adapter.targets": "transformer"}


_NAMES = {name: {"optimizer.name": name} for name in CHOICES["optimizer.name"]}
_NESTEROV = {"optimizer.name": "sgd", "optimizer.arguments": {"nesterov": True}}
OPTIMIZER = among({
    **_NAMES,
    # Where moments are paged to host memory they are the same; Lion's sign hardly sees their number type.
    "pagedadamw": _NAMES["adamw"], "pagedadamw32bit": _NAMES["adamw"], "pagedadamw8bit": _NAMES["adamw8bit"],
    "lion8bit": _NAMES["lion"], "pagedlion8bit": _NAMES["lion"],
    "sgdnesterov": _NESTEROV, "sgdnesterov8bit": _NESTEROV,
    "adamwschedulefree": _NAMES["schedulefree"],
})  # fmt: skip
# Arguments that their classes take beyond what is a setting here.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "adamw8bit": ("amsgrad", "min_8bit_size"),
    "adafactor": ("scale_parameter", "relative_step", "warmup_init", "decay_rate", "clip_threshold"),
    "came": ("betas", "clip_threshold"),
    "prodigy": ("d_coef", "d0", "growth_rate", "beta3", "decouple", "use_bias_correction", "safeguard_warmup",
                "fsdp_in_use", "slice_p"),
    "schedulefree": ("warmup_steps", "r", "weight_lr_power"),
    "sgd": ("nesterov", "dampening"),
}  # fmt: skip

_METHOD: dict[str, Settings] = {name: {"adapter.method": name} for name in CHOICES["adapter.method"]}
_ALGO = {**_METHOD, "locon": _METHOD["lora"], "diag-oft": _METHOD["oft"]}
_MODULE = {**_METHOD, "kohya": {**_METHOD["lora"], "adapter.targets": "everything"}}  # lycoris.kohya, as it comes
_KIND = {
    "standard": _METHOD["lora"],
    "kohya locon": _METHOD["lora"],
    **{f"lycoris/{name}": {**settings, "adapter.targets": "everything"} for name, settings in _ALGO.items()},
}
_TARGETS: dict[str, Settings] = {
    "full": {"adapter.targets": "everything"},
    "attn-mlp": {"adapter.targets": "transformer"},
    "attn-only": {"adapter.targets": "attention"},
    "unet-only": {"adapter.targets": "everything", "adapter.text_encoder": False},
    "unet-transformer-only": {"adapter.targets": "transformer", "adapter.text_encoder": False},
}
_SCHEDULES: dict[str, Settings] = {
    **{name: {"schedule.name": name} for name in CHOICES["schedule.name"]},
    "constant": {"schedule.name": "constant", "schedule.warmup": 0.0},  # no warm-up there, whatever is asked
    "constant_with_warmup": {"schedule.name": "constant"},
    "cosine_with_restarts": {"schedule.name": "restarts", "schedule.cycles": 1},  # what is not said is so there
    "cosine_with_min_lr": {"schedule.name": "cosine"},
    "polynomial": {"schedule.name": "polynomial", "schedule.power": 1.0},
}
_SAMPLERS = {"ddim": "DDIM", "euler": "Euler", "k_euler": "Euler", "dpmsolver++": "DPM++ 2M"}

ROWS: dict[str, Row] = {
    "LoRA_type": among(_KIND),
    "network_module": among(_MODULE),
    "algo": among(_ALGO),
    "network_dim": one("adapter.rank", number),
    "network_alpha": one("adapter.alpha", lambda value: number(value) or "auto"),
    "conv_dim": convolutions,
    "conv_alpha": one("adapter.conv_alpha", lambda value: number(value) or "auto"),
    "LyCORIS_preset": among(_TARGETS),
    "preset": among(_TARGETS),
    "targets": one("adapter.targets", str),
    "factor": one("adapter.factor", lambda value: "auto" if number(value) < 0 else number(value)),
    "rs_lora": one("adapter.rslora", truth),
    "ranks": one("adapter.ranks", dict),
    "alphas": one("adapter.alphas", dict),
    "network_dropout": one("adapter.dropout", number),
    "dropout": one("adapter.dropout", number),
    "rank_dropout": one("adapter.rank_dropout", number),
    "module_dropout": one("adapter.module_dropout", number),
    "scale_weight_norms": one("adapter.max_norm", number),
    "use_8bit_adam": only_if({"optimizer.name": "adamw8bit"}),
    "use_lion_optimizer": only_if({"optimizer.name": "lion"}),
    "optimizer_type": optimizer,
    "learning_rate": one("optimizer.learning_rate", number),
    "unet_lr": one("optimizer.learning_rate", number),
    "text_encoder_lr": encoder_rates,
    "network_train_unet_only": only_if({"adapter.text_encoder": False}),
    "loraplus_lr_ratio": one("optimizer.lora_plus_ratio", number),
    "loraplus_unet_lr_ratio": one("optimizer.lora_plus_ratio", number),
    "max_grad_norm": one("optimizer.clip_norm", number),
    "lr_warmup": one("schedule.warmup", lambda value: float(value) / 100),  # kohya_ss: percent
    "lr_warmup_steps": one("schedule.warmup", span),
    "lr_scheduler": among(_SCHEDULES),
    "lr_scheduler_num_cycles": one("schedule.cycles", number),
    "lr_scheduler_power": one("schedule.power", number),
    "lr_scheduler_min_lr_ratio": one("schedule.final", number),
    "max_train_steps": one("training.steps", number),
    "max_train_epochs": one("training.epochs", number),
    "train_batch_size": one("training.batch_size", number),
    "gradient_accumulation_steps": one("training.accumulation", number),
    "seed": one("training.seed", number),
    "save_every_n_epochs": every("training.save_every", "ep"),
    "save_every_n_steps": every("training.save_every", ""),
    "sample_every_n_epochs": every("sampling.every", "ep"),
    "sample_every_n_steps": every("sampling.every", ""),
    "sample_sampler": names("sampling.sampler", _SAMPLERS),
    "validation_split": one("validation.share", number),
    "save_precision": names("export.dtype", {"fp16": "fp16", "bf16": "bf16", "float": "fp32", "fp32": "fp32"}),
    "debiased_estimation_loss": only_if({"objective.weighting": "debiased"}),
    "min_snr_gamma": one("objective.snr_gamma", number),
    "noise_offset": one("objective.noise_offset", number),
    "multires_noise_iterations": one("objective.pyramid_iterations", number),
    "multires_noise_discount": one("objective.pyramid_discount", number),
    "ip_noise_gamma": one("objective.input_perturbation", number),
    "loss_type": names("objective.loss", list(CHOICES["objective.loss"])),
    "huber_schedule": names("objective.huber_schedule", list(CHOICES["objective.huber_schedule"])),
    "huber_c": one("objective.huber_c", number),
    "huber_scale": one("objective.huber_scale", number),
    "min_timestep": one("objective.min_timestep", number),
    "max_timestep": one("objective.max_timestep", number),
    "v_parameterization": only_if({"model.prediction": "v_prediction"}),
    "zero_terminal_snr": one("model.zero_terminal_snr", switch),
    "clip_skip": one("model.clip_skip", number),
    "resolution": one("dataset.resolution", side),
    "flip_aug": one("dataset.flip", truth),
    "random_crop": one("dataset.crop", lambda value: "random" if truth(value) else "focus"),
    "shuffle_caption": one("dataset.shuffle", switch),
    "keep_tokens": one("dataset.keep_tokens", number),
    "caption_dropout_rate": one("dataset.caption_dropout", number),
    "caption_tag_dropout_rate": one("dataset.tag_dropout", number),
    "caption_prefix": one("dataset.caption_prefix", str),
    "caption_suffix": one("dataset.caption_suffix", str),
    "max_token_length": one("dataset.caption_chunks", lambda value: number(value) // 75),
    "masked_loss": one("dataset.masks", truth),
    "alpha_mask": one("dataset.masks", truth),
    "prior_loss_weight": one("dataset.regularisation_weight", number),
}
# Off, or 0, says something there too, unless the other option is given; elsewhere it says that nobody asked for it.
MEANT = {
    **dict.fromkeys(
        ("network_alpha", "conv_dim", "flip_aug", "caption_dropout_rate", "shuffle_caption", "text_encoder_lr",
         "max_grad_norm", "lr_warmup", "validation_split", "seed"), ""),
    "lr_warmup_steps": "lr_warmup",
}  # fmt: skip
ALIASES = {  # in metadata or in kohya_ss's own files -> as an option
    "batch_size_per_device": "train_batch_size", "num_epochs": "max_train_epochs", "epoch": "max_train_epochs",
    "optimizer": "optimizer_type", "steps": "max_train_steps", "max_resolution": "resolution",
    "debiased_estimation": "debiased_estimation_loss",
}  # fmt: skip
# Options that count only together with another one that is taken.
GOES_WITH = {
    "network_alpha": "network_dim", "conv_alpha": "conv_dim", "learning_rate": "optimizer_type",
    "unet_lr": "optimizer_type", "text_encoder_lr": "optimizer_type", "lr_scheduler_num_cycles": "lr_scheduler",
    "lr_scheduler_power": "lr_scheduler", "lr_scheduler_min_lr_ratio": "lr_scheduler",
}  # fmt: skip
# What a file holds all the same where another option decides against it: (option, value) -> options.
_OF_LYCORIS = ("LyCORIS_preset", "factor", "dora_wd")
UNUSED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("LoRA_type", "standard"): ("conv_dim", "conv_alpha", *_OF_LYCORIS),
    ("LoRA_type", "kohya locon"): _OF_LYCORIS,
    ("noise_offset_type", "original"): ("multires_noise_iterations", "multires_noise_discount"),
    ("noise_offset_type", "multires"): ("noise_offset", "adaptive_noise_scale"),
    ("rslora", "true"): ("conv_alpha", "alphas"),
}

BY_ITSELF = "the engine chooses this by itself, see engine.*"
YOURS = "chosen for each run: base, pictures, names and trigger are yours"
FACT = "tells of the file and sets nothing"
LEFT: dict[str, str] = {
    **dict.fromkeys(
        ("mixed_precision", "full_bf16", "full_fp16", "fp8_base", "fp8_base_unet", "gradient_checkpointing", "xformers",
         "sdpa", "mem_eff_attn", "lowram", "highvram", "cache_latents", "cache_latents_to_disk",
         "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "no_half_vae", "vae_batch_size",
         "torch_compile", "dynamo_backend", "max_data_loader_n_workers", "persistent_data_loader_workers",
         "num_cpu_threads_per_process", "num_processes", "num_machines", "enable_bucket", "bucket_no_upscale",
         "bucket_reso_steps", "min_bucket_reso", "max_bucket_reso", "save_model_as"), BY_ITSELF),
    **dict.fromkeys(
        ("pretrained_model_name_or_path", "train_data_dir", "reg_data_dir", "output_dir", "output_name", "logging_dir",
         "dataset_config", "datasets", "vae", "vae_name", "sample_prompts", "sd_model_name", "v2", "sdxl",
         "class_tokens", "network_weights"), YOURS),
    **dict.fromkeys(
        ("session_id", "training_started_at", "training_finished_at", "training_comment", "num_train_images",
         "num_validation_images", "num_reg_images", "num_batches_per_epoch", "base_model_version", "sd_model_hash",
         "new_sd_model_hash", "vae_hash", "new_vae_hash", "sd_scripts_commit_hash", "tag_frequency", "bucket_info",
         "dataset_dirs", "reg_dataset_dirs", "total_batch_size"), FACT),
    "loraplus_text_encoder_lr_ratio": "optimizer.lora_plus_ratio counts for every part here",
    "rslora": "network_alpha has it in it",
}  # fmt: skip
UNKNOWN = "no setting here does this"
