"""How the adapter learns: optimiser, schedule, objective, length."""

from typing import Literal

from pydantic import Field, model_validator

from trainer.contract.config.section import Every, Section


class OptimizerSection(Section):
    """How the adapter's matrices are changed."""

    name: str = Field("adamw", description="Optimiser, by its name in the catalogue.")
    learning_rate: float = Field(1e-4, gt=0, le=10, description="Peak learning rate of the UNet's matrices.")
    text_encoder_learning_rate: float | Literal["auto"] = Field(
        "auto", description="Peak learning rate of the text encoder's matrices. `auto`: half of the UNet's."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's first moment.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Decay of AdamW's second moment.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's term against division by zero.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm of a step; 0 does not clip.")

    @property
    def text_encoder_rate(self) -> float:
        """text_encoder_learning_rate as a number."""
        rate = self.text_encoder_learning_rate
        return self.learning_rate / 2 if rate == "auto" else float(rate)


class ScheduleSection(Section):
    """The learning rate over the run."""

    name: str = Field("cosine", description="Shape of the learning rate over the run, by its name in the catalogue.")
    warmup: float = Field(0.05, ge=0, description="Warm-up: below 1 a share of all steps, from 1 on a number of steps.")


class ObjectiveSection(Section):
    """What is learned and how errors weigh."""

    snr_gamma: float | Literal["off"] = Field(
        "off",
        description="min-SNR weighting (arXiv 2303.09556); 5 is the paper's value. `off`: every timestep weighs 1.",
    )
    noise_offset: float = Field(
        0.0, ge=0, le=1, description="Noise shared by a whole channel; helps very dark or bright sets."
    )


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
    threads: int | Literal["auto"] = Field("auto", description="CPU threads. `auto`: all cores.")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSection":
        given = [name for name in ("steps", "epochs", "views") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, views (given: {', '.join(given) or 'none'})")
        return self
