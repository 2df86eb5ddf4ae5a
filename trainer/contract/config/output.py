"""What a run shows and leaves behind: sample pictures, the adapter file."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.contract.config.section import AutoOrEvery, Section


class SamplingSection(Section):
    """Pictures drawn while training."""

    prompts: tuple[str, ...] = Field(
        (),
        description="Sample prompts. Empty: two training captions, the trigger in a new scene, and that scene alone.",
    )
    strengths: tuple[Annotated[float, Field(ge=-4, le=4)], ...] = Field(
        (0.0, 0.5, 1.0),
        min_length=1,
        max_length=9,
        description="Every prompt is drawn at these strengths of the adapter, side by side from one seed. 0: the base.",
    )
    negative: str = Field("", description="What the sample pictures should not show.")
    every: AutoOrEvery = Field(
        "auto",
        description="When to draw samples: steps, share of the run, epochs, `never`. `auto`: every 20%, or less often, "
        "so that they take at most a tenth of the run.",
    )
    steps: int = Field(20, ge=1, le=200, description="Denoising steps of a sample picture.")
    guidance: float = Field(5.0, ge=1, le=30, description="Classifier-free guidance scale; 1 is off.")
    sampler: str = Field("DPM++ 2M", description="Sampler, by its name in the catalogue.")
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of the first sample picture.")


class ExportSection(Section):
    """The adapter file."""

    dtype: Literal["fp16", "bf16", "fp32"] = Field("fp16", description="Number type in the exported file.")
    ema: bool = Field(
        False, description="Write the running average (training.ema) instead of the last matrices; samples show it too."
    )
    captions: bool = Field(
        True, description="Write how often each tag was used into the file. Off: nothing of the captions."
    )
