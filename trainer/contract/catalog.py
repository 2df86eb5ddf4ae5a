"""Tables of what exists: name -> import path and facts. Adding something is a row here and, at most, one new file.

A path is imported only when a run needs it, so that reading the tables never imports torch.
"""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from trainer.contract.errors import UserError

if TYPE_CHECKING:
    from trainer.contract.config import RunConfig


@dataclass(frozen=True)
class Row:
    """One thing that can be chosen by name.

    Attributes:
        path: `module:attribute` that implements it.
        title: name as people write it.
        note: one line of help.
        reads: settings that count only where a row that reads them is chosen; see `trainer.contract.rules`.
    """

    path: str
    title: str
    note: str
    reads: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class OptimizerRow(Row):
    """An optimiser.

    Attributes:
        graph: what a CUDA graph may hold: the whole step, forward and backward only, or nothing.
    """

    graph: Literal["step", "backward", "none"]


@dataclass(frozen=True)
class AdapterRow(Row):
    """An adapter method.

    Attributes:
        mark: how a tensor's name in a file begins that only this method has; "" for LoRA.
        formula: `module:attribute` of the `Method` that reads such a file.
    """

    mark: str = ""
    formula: str = ""


@dataclass(frozen=True)
class SamplerRow(Row):
    """A sampler under A1111's name.

    Attributes:
        options: keyword arguments over the base's scheduler config.
        schedule: A1111's `Schedule type`.
    """

    options: tuple[tuple[str, Any], ...]
    schedule: str


@dataclass(frozen=True)
class FamilyRow(Row):
    """A model family.

    Attributes:
        shelf: folder below `presets/` whose presets fit it.
    """

    shelf: str


FAMILIES = {
    "sd1": FamilyRow("trainer.families.sd:load", "Stable Diffusion 1.x", "One CLIP text encoder, 512 px.", "sd"),
    "sd2": FamilyRow(
        "trainer.families.sd:load", "Stable Diffusion 2.x", "One OpenCLIP text encoder, 512 or 768 px.", "sd"
    ),
    "sdxl": FamilyRow(
        "trainer.families.sd:load", "Stable Diffusion XL", "Two text encoders and size conditioning, 1024 px.", "sdxl"
    ),
}

_SIZE = ("adapter.alpha",)
_LORA = (*_SIZE, "adapter.rslora", "adapter.init")
ADAPTERS = {
    "lora": AdapterRow(
        "trainer.adapters.lora:attach",
        "LoRA",
        "Two small matrices beside each layer (arXiv 2106.09685).",
        reads=(*_LORA, "adapter.dropout", "adapter.rank_dropout", "adapter.max_norm"),
    ),
    "dora": AdapterRow(
        "trainer.adapters.dora:attach",
        "DoRA",
        "LoRA with the length of each column learned apart (arXiv 2402.09353). Slower. pip install lycoris-lora",
        "dora_scale",
        "trainer.adapters.dora:METHOD",
        reads=_LORA,
    ),
    "loha": AdapterRow(
        "trainer.adapters.loha:attach",
        "LoHa",
        "The product of two LoRA: a high rank in a small file (arXiv 2108.06098). pip install lycoris-lora",
        "hada_",
        "trainer.adapters.loha:METHOD",
        reads=_SIZE,
    ),
    "lokr": AdapterRow(
        "trainer.adapters.lokr:attach",
        "LoKr",
        "A Kronecker product: very small files (arXiv 2212.10650). pip install lycoris-lora",
        "lokr_",
        "trainer.adapters.lokr:METHOD",
        reads=(*_SIZE, "adapter.factor"),
    ),
    "oft": AdapterRow(
        "trainer.adapters.oft:attach",
        "OFT",
        "Turns the weights and keeps their lengths; rank is the size of a block (arXiv 2306.07280). "
        "pip install lycoris-lora",
        "oft_",
        "trainer.adapters.oft:METHOD",
    ),
}

OPTIMIZERS = {
    "adamw": OptimizerRow(
        "trainer.optim:FlatAdamW",
        "AdamW",
        "Adam with decoupled weight decay (arXiv 1711.05101), one flat slice a group.",
        "step",
    ),
}

SCHEDULES = {
    "cosine": Row("trainer.optim:cosine", "Cosine", "Falls along half a cosine to zero."),
    "linear": Row("trainer.optim:linear", "Linear", "Falls in a straight line to zero."),
    "constant": Row("trainer.optim:constant", "Constant", "Stays at its peak after the warm-up."),
}

WEIGHTINGS = {
    "none": Row("trainer.objectives.weighting:uniform_weight", "None", "Every timestep counts as much."),
    "min_snr": Row(
        "trainer.objectives.weighting:min_snr_weight",
        "min-SNR",
        "Timesteps with little noise count less (arXiv 2303.09556).",
        reads=("objective.snr_gamma",),
    ),
    "soft_min_snr": Row(
        "trainer.objectives.weighting:soft_min_snr_weight",
        "soft-min-SNR",
        "The same without a kink (arXiv 2401.11605).",
        reads=("objective.snr_gamma",),
    ),
    "debiased": Row(
        "trainer.objectives.weighting:debiased_weight",
        "Debiased estimation",
        "Timesteps with much noise count more (arXiv 2310.08442).",
    ),
}

HUBER = ("objective.huber_schedule", "objective.huber_c", "objective.huber_scale")
LOSSES = {
    "l2": Row("trainer.objectives.losses:l2", "L2", "Squared error, as the base was trained."),
    "l1": Row("trainer.objectives.losses:l1", "L1", "Absolute error: outliers count less."),
    "huber": Row(
        "trainer.objectives.losses:huber", "Huber", "L2 for small errors, L1 for large (arXiv 2403.16728).", reads=HUBER
    ),
    "smooth_l1": Row(
        "trainer.objectives.losses:smooth_l1", "Smooth L1", "The same, as strong as L1 for large errors.", reads=HUBER
    ),
}

HUBER_SCHEDULES = {
    "constant": Row("trainer.objectives.losses:constant_threshold", "Constant", "The same at every timestep."),
    "exponential": Row(
        "trainer.objectives.losses:exponential_threshold", "Exponential", "Falls with the timestep from 1 to huber_c."
    ),
    "snr": Row("trainer.objectives.losses:snr_threshold", "SNR", "Falls with the signal-to-noise ratio to huber_c."),
}

TIMESTEPS = {
    "uniform": Row("trainer.objectives.timesteps:uniform", "Uniform", "Every timestep as often."),
    "logit_normal": Row(
        "trainer.objectives.timesteps:logit_normal",
        "Logit-normal",
        "Mostly the middle (arXiv 2403.03206).",
        reads=("objective.timestep_mean", "objective.timestep_std"),
    ),
    "early": Row(
        "trainer.objectives.timesteps:early",
        "Early",
        "More of those with little noise: detail and texture.",
        reads=("objective.timestep_bias",),
    ),
    "late": Row(
        "trainer.objectives.timesteps:late",
        "Late",
        "More of those with much noise: composition and shape.",
        reads=("objective.timestep_bias",),
    ),
}

SAMPLERS = {
    "DPM++ 2M": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M",
        "Good at 20 steps (arXiv 2211.01095).",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2)),
        "Automatic",
    ),
    "DPM++ 2M Karras": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M",
        "The same on Karras' noise levels (arXiv 2206.00364).",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        "Karras",
    ),
    "Euler": SamplerRow("diffusers:EulerDiscreteScheduler", "Euler", "The plain first-order method.", (), "Automatic"),
    "DDIM": SamplerRow(
        "diffusers:DDIMScheduler",
        "DDIM",
        "Deterministic first-order method (arXiv 2010.02502).",
        (("clip_sample", False), ("set_alpha_to_one", False)),
        "Automatic",
    ),
}

CHOICES: dict[str, Mapping[str, Row]] = {
    "optimizer.name": OPTIMIZERS,
    "schedule.name": SCHEDULES,
    "objective.weighting": WEIGHTINGS,
    "objective.loss": LOSSES,
    "objective.huber_schedule": HUBER_SCHEDULES,
    "objective.timesteps": TIMESTEPS,
    "sampling.sampler": SAMPLERS,
    "adapter.method": ADAPTERS,
}


def resolve(row: Row, path: str = "") -> Any:
    """Import what a row names, or something else of it."""
    module, _, attribute = (path or row.path).partition(":")
    return getattr(importlib.import_module(module), attribute)


def pick(setting: str, name: str) -> Any:
    """Return the row that a setting names.

    Raises:
        UserError: an unknown name, with what there is and the nearest right one.
    """
    table = CHOICES[setting]
    if name not in table:
        near = difflib.get_close_matches(name.lower(), {key.lower(): key for key in table}, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UserError(f"'{name}' is not known", setting, f"{hint}There is: {', '.join(table)}.")
    return table[name]


def check_choices(config: "RunConfig") -> None:
    """Check every setting that names a row. Raises UserError."""
    for setting in CHOICES:
        section, key = setting.split(".")
        pick(setting, getattr(getattr(config, section), key))
