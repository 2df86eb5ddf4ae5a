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
    plain: bool = Field(
        True,
        description="Of DoRA, LoHa, LoKr and OFT, which programs read differently or not at all, write a plain LoRA "
        "too: NAME-lora.safetensors, by SVD, with the error of every layer in a report beside it.",
    )
    plain_rank: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="Rank of that LoRA. `auto`: what each layer takes to be within 4%, at most 128."
    )
    captions: bool = Field(
        True,
        description="Write how often each tag was used into the file. Off: nothing of the captions, nor of prompts.",
    )
    each_save: bool = Field(
        True,
        description="Write an adapter file at every save too (`NAME-s000750.safetensors`), to choose the best step.",
    )
    preferred_weight: float | None = Field(
        None, ge=-4, le=4, description="Strength that other programs are told to start with; as trained it is 1."
    )
    author: str = Field("", description="Whose work the file says it is.")
    license: str = Field("", description="Terms that the file says it may be used under, such as CC-BY-4.0.")
    description: str = Field("", description="What the file says it is for.")


class TrackingSection(Section):
    """Curves and samples for programs that compare runs. The page has its own; these are beside them."""

    tensorboard: bool = Field(
        True, description="Write TensorBoard event files into the run's folder: tensorboard --logdir outputs/runs."
    )
    wandb: bool = Field(
        False, description="Send them to Weights & Biases, with the account that `wandb login` keeps on this machine."
    )
    project: str = Field("lora-atelier", min_length=1, description="Project of Weights & Biases that runs appear in.")
