"""How the adapter learns: optimiser, schedule, objective, length."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.contract.config.section import Every, Section, Table

Argument = bool | int | float | str | tuple[bool | int | float, ...]
Rate = Annotated[float, Field(gt=0, le=100)] | Literal["auto"]


def _peak(whose: str, auto: str) -> Any:
    """A peak learning rate."""
    return Field("auto", description=f"Peak learning rate of {whose} matrices. `auto`: {auto}.")


class OptimizerSection(Section):
    """How the adapter's matrices are changed."""

    name: str = Field("adamw", description="Optimiser, by its name in the catalogue, or a class by its dotted name.")
    learning_rate: Rate = _peak("the UNet's", "the optimiser's own in the catalogue")
    text_encoder_learning_rate: Rate = _peak(
        "the text encoder's", "half of the UNet's, or the same where the optimiser finds it"
    )
    text_encoder_2_learning_rate: Rate = _peak("the second text encoder's (SDXL)", "as the first one's")
    lora_plus_ratio: float = Field(
        1.0,
        ge=1,
        le=64,
        description="LoRA+ (arXiv 2402.12354): B's rate is so many times A's. 16 is the paper's value.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment; SGD's momentum.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Decay of the second moment of AdamW and its kin.")
    epsilon: float = Field(1e-8, gt=0, description="Term against division by zero of AdamW and its kin.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm of a step; 0 does not clip.")
    arguments: Table[Argument] = Field(
        {}, description="More arguments of the optimiser's class, such as d_coef = 2 for Prodigy."
    )


class ScheduleSection(Section):
    """The learning rate over the run."""

    name: str = Field("auto", description="Shape of the learning rate over the run, by its name in the catalogue.")
    warmup: float = Field(0.05, ge=0, description="Warm-up: below 1 a share of all steps, from 1 on a number of steps.")
    final: float = Field(0.0, ge=0, le=1, description="Where the rate ends, as a share of its peak.")
    cycles: int = Field(3, ge=1, le=100, description="How often cosine with restarts falls.")
    power: float = Field(2.0, gt=0, le=10, description="Power of the polynomial.")


class ObjectiveSection(Section):
    """What is learned and how errors weigh."""

    weighting: str = Field(
        "none",
        description="How much each timestep counts. min_snr evens out what is learned at little and at much noise, "
        "soft_min_snr too, without a kink; debiased prefers much noise.",
    )
    snr_gamma: float = Field(
        5.0,
        gt=0,
        le=100,
        description="Largest signal-to-noise ratio that min-SNR lets count; 5 is the paper's (arXiv 2303.09556).",
    )
    loss: str = Field(
        "l2", description="How an error is measured. l1, huber and smooth_l1 let outliers and bad pictures count less."
    )
    huber_schedule: str = Field("snr", description="Over the timesteps, where a Huber loss turns from L2 to L1.")
    huber_c: float = Field(0.1, gt=0, le=1, description="Error at which it turns; with a schedule, at the noisy end.")
    huber_scale: float = Field(1.0, gt=0, le=100, description="Multiplies that error at every timestep.")
    noise_offset: float = Field(
        0.0, ge=0, le=1, description="Noise shared by a whole channel; helps very dark or bright sets."
    )
    pyramid_iterations: int = Field(
        0, ge=0, le=10, description="Coarser levels of noise on top, for large dark or bright areas; 6 to 10. 0: none."
    )
    pyramid_discount: float = Field(0.3, gt=0, lt=1, description="How strong each level is against the one before.")
    input_perturbation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="More noise in the input than is asked for, against errors that add up; 0.1 (arXiv 2301.11706).",
    )
    timesteps: str = Field(
        "uniform",
        description="Which timesteps are learned more: logit_normal the middle, early those with little noise (detail, "
        "texture), late those with much (composition, shape).",
    )
    timestep_mean: float = Field(0.0, ge=-5, le=5, description="Centre of logit-normal; above 0 is more noise.")
    timestep_std: float = Field(1.0, gt=0, le=5, description="Width of logit-normal.")
    timestep_bias: float = Field(2.0, ge=1, le=10, description="How strongly early or late are preferred; 1: not.")
    min_timestep: float = Field(
        0.0, ge=0, lt=1000, description="First timestep learned: below 1 a share of all, from 1 on its number."
    )
    max_timestep: float = Field(
        1.0, gt=0, le=1000, description="Where learned timesteps end: up to 1 a share of all, above it a number."
    )
    stratified: bool = Field(
        False, description="Spread the timesteps of each optimiser step evenly: calmer, with few pictures in a step."
    )
    prior: Literal["pictures", "base"] = Field(
        "pictures",
        description="What regularisation pictures teach: themselves, or what the base answers to them without the "
        "adapter (one more forward pass).",
    )

    def timestep_range(self, count: int) -> tuple[int, int]:
        """(first timestep learned, the one after the last) of a base with that many."""
        low = self.min_timestep * count if self.min_timestep < 1 else self.min_timestep
        high = self.max_timestep * count if self.max_timestep <= 1 else self.max_timestep
        return round(low), round(high)


class TrainingSection(Section):
    """Length, batches, seed, checkpoints."""

    steps: int | None = Field(None, ge=1, description="Optimiser steps. One of steps, epochs or views is given.")
    epochs: float | None = Field(None, gt=0, description="Passes over the set.")
    views: int | None = Field(
        None, ge=1, description="How often each picture is seen; a larger batch means fewer steps."
    )
    batch_size: int = Field(4, ge=1, le=256, description="Pictures in one forward pass.")
    accumulation: int = Field(1, ge=1, le=256, description="Forward passes added up before one optimiser step.")
    seed: int = Field(0, ge=0, lt=2**32, description="Same seed, same machine: the same file, bit for bit.")
    save_every: Every = Field(
        "20%", description="Checkpoints: steps (`500`), share of the run (`20%`), epochs (`2ep`), `never`."
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a running average of the adapter, such as 0.999; 0 keeps none. "
        "`export.ema` says whether it is used.",
    )
    threads: int | Literal["auto"] = Field("auto", description="CPU threads. `auto`: all cores.")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSection":
        given = [name for name in ("steps", "epochs", "views") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, views (given: {', '.join(given) or 'none'})")
        return self
