"""Tables of what exists: name -> import path and facts. Adding something is a row here and, at most, one new file.

A path is imported only when a run needs it, so that reading the tables never imports torch.
"""

import difflib
import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.contract.errors import UserError
from trainer.contract.rows import AdapterRow, FamilyRow, OptimizerRow, Row, SamplerRow

if TYPE_CHECKING:
    from trainer.contract.config import RunConfig


FAMILIES = {
    "sd1": FamilyRow("trainer.families.sd:load", "Stable Diffusion 1.x", "One CLIP text encoder, 512 px.", "sd"),
    "sd2": FamilyRow(
        "trainer.families.sd:load", "Stable Diffusion 2.x", "One OpenCLIP text encoder, 512 or 768 px.", "sd"
    ),
    "sdxl": FamilyRow(
        "trainer.families.sd:load", "Stable Diffusion XL", "Two text encoders and size conditioning, 1024 px.", "sdxl"
    ),
}

_SIZE = ("adapter.alpha", "adapter.alphas", "adapter.conv_alpha", "adapter.text_encoder_alpha")
_LORA = (*_SIZE, "adapter.rslora", "adapter.init")
ADAPTERS = {
    "lora": AdapterRow(
        "trainer.adapters.lora:attach",
        "LoRA",
        "Two small matrices beside each layer (arXiv 2106.09685).",
        reads=(*_LORA, "adapter.dropout", "adapter.rank_dropout", "adapter.max_norm", "optimizer.lora_plus_ratio"),
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
        unscaled="both factors are whole, as where the rank is half of the larger one's side or more",
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

# Arguments of an optimiser -> settings of `[optimizer]` that they are made of.
PASSED = {
    "betas": ("beta1", "beta2"),
    "eps": ("epsilon",),
    "momentum": ("beta1",),
    "weight_decay": ("weight_decay",),
}


def _passing(*arguments: str) -> dict[str, Any]:
    settings = [f"optimizer.{setting}" for name in arguments for setting in PASSED[name]]
    return {"passes": arguments, "reads": tuple(settings)}


OPTIMIZERS = {
    "adamw": OptimizerRow(
        "trainer.optim.flat:adamw",
        "AdamW",
        "Adam with decoupled weight decay (arXiv 1711.05101), one flat slice a group. What most recipes are made for.",
        bytes=8,
        **_passing("betas", "eps", "weight_decay"),
    ),
    "adamw8bit": OptimizerRow(
        "bitsandbytes.optim:AdamW8bit",
        "AdamW 8-bit",
        "AdamW with moments in 8 bits (arXiv 2110.02861): saves two bytes for each trained number.",
        package="bitsandbytes",
        whole=True,
        bytes=6,
        **_passing("betas", "eps", "weight_decay"),
    ),
    "adafactor": OptimizerRow(
        "pytorch_optimizer:AdaFactor",
        "Adafactor",
        "Second moments as a row and a column for each matrix, no first (arXiv 1804.04235); the rate is given.",
        package="pytorch-optimizer",
        bytes=12,
        **_passing("weight_decay"),
        arguments=(("betas", (None, 0.999)), ("scale_parameter", False), ("relative_step", False)),
    ),
    "prodigy": OptimizerRow(
        "prodigyopt:Prodigy",
        "Prodigy",
        "Finds the learning rate itself (arXiv 2306.06101): leave it at 1, or scale what is found with d_coef.",
        rate=1.0,
        sensible=(0.1, 5.0),
        package="prodigyopt",
        whole=True,
        one_rate=True,
        bytes=20,
        **_passing("betas", "eps", "weight_decay"),
        # What its authors advise for diffusion models and for schedules with a warm-up.
        arguments=(("use_bias_correction", True), ("safeguard_warmup", True)),
    ),
    "lion": OptimizerRow(
        "trainer.optim.flat:lion",
        "Lion",
        "Steps by the sign of the momentum (arXiv 2302.06675), one flat slice a group. Wants a third of AdamW's rate.",
        rate=3e-5,
        sensible=(3e-6, 3e-4),
        bytes=4,
        **_passing("betas", "weight_decay"),
    ),
    "came": OptimizerRow(
        "pytorch_optimizer:CAME",
        "CAME",
        "Adafactor that goes further where steps are steady (arXiv 2307.02047). Wants a tenth of AdamW's rate.",
        rate=1e-5,
        sensible=(1e-6, 1e-4),
        package="pytorch-optimizer",
        **_passing("weight_decay"),
    ),
    "schedulefree": OptimizerRow(
        "schedulefree:AdamWScheduleFree",
        "Schedule-free AdamW",
        "Averages instead of lowering the rate (arXiv 2405.15682): good at any moment, whatever the length.",
        rate=2e-4,
        sensible=(2e-5, 2e-3),
        package="schedulefree",
        whole=True,
        **_passing("betas", "eps", "weight_decay"),
        averages=True,
        schedule="constant",
    ),
    "sgd": OptimizerRow(
        "torch.optim:SGD",
        "SGD with momentum",
        "The plain gradient, carried on (beta1 is the momentum). For comparisons: its rate is hard to find.",
        rate=0.1,
        sensible=(1e-3, 1.0),
        whole=True,
        bytes=8,
        **_passing("momentum", "weight_decay"),
    ),
}

SCHEDULES = {
    "auto": Row(
        "trainer.contract.schedules:cosine", "Automatic", "Cosine; constant where the optimiser needs no other."
    ),
    "cosine": Row("trainer.contract.schedules:cosine", "Cosine", "Falls along half a cosine."),
    "linear": Row("trainer.contract.schedules:linear", "Linear", "Falls in a straight line."),
    "constant": Row("trainer.contract.schedules:constant", "Constant", "Stays at its peak after the warm-up."),
    "restarts": Row(
        "trainer.contract.schedules:restarts",
        "Cosine with restarts",
        "Falls along half a cosine, several times, each from the peak.",
        reads=("schedule.cycles",),
    ),
    "polynomial": Row(
        "trainer.contract.schedules:polynomial",
        "Polynomial",
        "Falls as a power of what is left: 1 is linear, 2 falls early, 0.5 falls late.",
        reads=("schedule.power",),
    ),
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

# A1111's and ComfyUI's usual noise levels: from the first timestep to the last in equal steps, both with them.
_EQUAL = (("timestep_spacing", "linspace"),)
SAMPLERS = {
    "DPM++ 2M": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M",
        "Good at 20 steps (arXiv 2211.01095).",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2)),
        "Uniform",
    ),
    "DPM++ 2M Karras": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M",
        "The same on Karras' noise levels (arXiv 2206.00364).",
        (("algorithm_type", "dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        "Karras",
    ),
    "Euler": SamplerRow(
        "diffusers:EulerDiscreteScheduler", "Euler", "The plain first-order method.", _EQUAL, "Automatic"
    ),
    "Euler a": SamplerRow(
        "diffusers:EulerAncestralDiscreteScheduler",
        "Euler a",
        "Euler with new noise at every step: another picture at every number of steps.",
        _EQUAL,
        "Automatic",
    ),
    "Heun": SamplerRow(
        "diffusers:HeunDiscreteScheduler", "Heun", "Second order, asks the model twice a step.", _EQUAL, "Automatic"
    ),
    "DPM++ 2M SDE": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M SDE",
        "DPM++ 2M with new noise at every step.",
        (("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2)),
        "Uniform",
    ),
    "DPM++ 2M SDE Karras": SamplerRow(
        "diffusers:DPMSolverMultistepScheduler",
        "DPM++ 2M SDE",
        "The same on Karras' noise levels.",
        (("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        "Karras",
    ),
    "DPM++ SDE Karras": SamplerRow(
        "diffusers:DPMSolverSinglestepScheduler",
        "DPM++ SDE",
        "Single steps with new noise, on Karras' noise levels.",
        (("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2), ("use_karras_sigmas", True)),
        "Karras",
    ),
    "UniPC": SamplerRow(
        "diffusers:UniPCMultistepScheduler", "UniPC", "Good at 10 steps (arXiv 2302.04867).", (), "Automatic"
    ),
    "LCM": SamplerRow(
        "diffusers:LCMScheduler",
        "LCM",
        "4 to 8 steps at guidance 1, for bases and adapters made for it (arXiv 2310.04378).",
        (("clip_sample", False),),
        "Automatic",
    ),
    "DDIM": SamplerRow(
        "diffusers:DDIMScheduler",
        "DDIM",
        "Deterministic first-order method (arXiv 2010.02502).",
        (("clip_sample", False), ("set_alpha_to_one", False)),
        "Automatic",
    ),
}

DOTTED = ("optimizer.name",)  # settings that also take the dotted name of a class

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
    if setting in DOTTED and re.fullmatch(r"\w+(\.\w+)+", name):
        return dotted(name)
    if name not in table:
        near = difflib.get_close_matches(name.lower(), {key.lower(): key for key in table}, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        more = ", or the dotted name of a class" if setting in DOTTED else ""
        raise UserError(f"'{name}' is not known", setting, f"{hint}There is: {', '.join(table)}{more}.")
    return table[name]


def dotted(name: str) -> OptimizerRow:
    """A row for `package.module.Class`; it is handed each matrix by itself, and its own defaults."""
    module, _, attribute = name.rpartition(".")
    return OptimizerRow(f"{module}:{attribute}", attribute, f"The class {name}.", sensible=(0.0, float("inf")))


def optimizer_row(name: str) -> OptimizerRow:
    """The row of an optimiser. Raises UserError for an unknown name."""
    row: OptimizerRow = pick("optimizer.name", name)
    return row


def check_package(row: OptimizerRow) -> None:
    """Look for the package that an optimiser comes from, without importing it.

    Raises:
        UserError: it is not installed; says how to.
    """
    module = row.path.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(module) is None:
        fix = f"Run: python -m pip install {row.package or module}"
        raise UserError(f"{row.title} needs the package {row.package or module}, which is not installed",
                        "optimizer.name", fix)  # fmt: skip


def check_choices(config: "RunConfig") -> None:
    """Check every setting that names a row. Raises UserError."""
    for setting in CHOICES:
        section, key = setting.split(".")
        pick(setting, getattr(getattr(config, section), key))
