"""The one configuration tree of a run: typed, frozen, unknown keys refused, a help line on every field.

It is stored as TOML. Layers are put together by `trainer.contract.compose`; nothing else builds a `RunConfig`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PERCENT_OR_STEPS = r"^(\d+|\d+(\.\d+)?%|\d+(\.\d+)?ep|never)$"
AUTO_OR_EVERY = PERCENT_OR_STEPS.replace("never", "never|auto")
Every = Annotated[str, Field(pattern=PERCENT_OR_STEPS)]
AutoOrEvery = Annotated[str, Field(pattern=AUTO_OR_EVERY)]
Prediction = Literal["auto", "epsilon", "v_prediction"]
Switch = Literal["auto", "on", "off"]
NumberType = Literal["auto", "fp32", "bf16", "fp16"]
MASK_FLOOR = 0.1


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)


def _numbers(given: Any) -> Any:
    """A list of numbers as a person types it: `512, 768`. Each counts once, and one alone is a plain number."""
    if isinstance(given, str) and "," in given:
        given = [int(part) if part.strip().isdecimal() else part.strip() for part in given.split(",")]
    if not isinstance(given, list | tuple) or not given or not all(isinstance(part, int) for part in given):
        return given
    rising = tuple(sorted(set(given)))
    return rising if len(rising) > 1 else rising[0]


class ModelSection(Section):
    """The frozen base model."""

    base: str = Field(
        "demo", min_length=1, description="Base model: `demo`, a diffusers folder, a .safetensors file, or a Hub id."
    )
    revision: str = Field("", description="Commit, tag or branch of a Hub id. Empty: its main branch.")
    vae: str = Field("", description="Another VAE: a .safetensors file or a diffusers folder. Empty: the base's own.")
    prediction: Prediction = Field(
        "auto", description="What the UNet answers: the noise or v (arXiv 2202.00512). `auto`: as the base says."
    )
    zero_terminal_snr: Switch = Field(
        "auto", description="Whether the last timestep is pure noise (arXiv 2305.08891). `auto`: as the base says."
    )
    clip_skip: Annotated[int, Field(ge=1, le=12)] | Literal["auto"] = Field(
        "auto", description="Text encoder layer that is read, counted from the end; 2 for anime models of SD 1.x."
    )
    dtype: NumberType = Field(
        "auto", description="Number type of the frozen base. `auto`: bf16 on a GPU, fp16 on an old one, fp32 on a CPU."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train. `auto`: the GPU if there is one."
    )


class ConceptSection(Section):
    """A set of pictures beside the first one. What is left out is as the set itself has it, then as the run has it."""

    path: str = Field(min_length=1, description="Folder of pictures.")
    trigger: str = Field("", description="Word that calls it.")
    class_word: str = Field("", description="What it is, for pictures without a caption.")
    repeats: int = Field(1, ge=1, le=9999, description="How often each picture is seen in an epoch.")
    flip: bool | None = Field(None, description="Mirror half of its pictures.")
    regularisation: bool = Field(False, description="It shows what is not to change, and gets no trigger.")


class DatasetSection(Section):
    """The pictures and what is done with them."""

    path: str = Field(min_length=1, description="Folder of pictures, captions as .txt files beside them.")
    concepts: tuple[ConceptSection, ...] = Field(
        (),
        description="Further sets, trained beside the first: tables with path, trigger, class_word, repeats, flip, "
        "regularisation.",
    )
    resolution: Annotated[int | tuple[int, ...] | Literal["auto"], BeforeValidator(_numbers)] = Field(
        "auto",
        description="Side of the square whose area every picture is brought to, in pixels; several (`512, 768`) show "
        "each picture at all of them. `auto`: the base's own.",
    )
    max_upscale: float = Field(
        2.0, ge=1, description="Most that a picture is enlarged by; a smaller one is trained at a smaller size."
    )
    crop: Literal["focus", "centre", "random"] = Field(
        "focus",
        description="What is kept of a picture of another shape: the part around its focus point (its middle where it "
        "has none), the middle, or one of 4 parts spread over it, drawn anew at every view.",
    )
    background: str = Field(
        "auto",
        pattern=r"^(auto|#[0-9a-fA-F]{6})$",
        description="Colour behind transparent parts, `#rrggbb`. `auto`: as the set has it, else white.",
    )
    trigger: str = Field("", description="Word that calls the new thing. Put in front of captions that lack it.")
    class_word: str = Field("", description="What the new thing is; pictures without a caption get it and the trigger.")
    caption_prefix: str = Field("", description="Put in front of every caption.")
    caption_suffix: str = Field("", description="Put behind every caption.")
    caption_chunks: int = Field(
        3, ge=1, le=3, description="Longest caption, in chunks of 75 tokens; what is longer is cut."
    )
    shuffle: Switch = Field(
        "auto",
        description="Let tags change places. `auto`: in captions made of tags and commas, not in sentences. Up to 8 "
        "wordings of a picture are drawn once; a view shows one.",
    )
    keep_tokens: int = Field(
        0, ge=0, description="Tags at the front of a caption that stay there, the trigger counted."
    )
    tag_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a caption's tags that a wording leaves out. Up to 8 wordings of a picture are drawn "
        "once; a view shows one.",
    )
    caption_dropout: float = Field(
        0.05, ge=0, le=1, description="Share of views trained with an empty caption (keeps guidance working)."
    )
    flip: bool = Field(False, description="Mirror half of the pictures, drawn anew at every view.")
    masks: bool = Field(True, description="Learn from what a picture's mask shows white, where it has one.")
    mask_floor: float = Field(
        MASK_FLOOR, ge=0, le=1, description="What the rest of a picture with a mask counts, against 1 inside the mask."
    )
    regularisation_weight: float = Field(
        1.0, gt=0, le=10, description="What a regularisation picture counts, against 1 for the others."
    )

    @model_validator(mode="after")
    def _without_effect(self) -> "DatasetSection":
        if self.keep_tokens and self.shuffle == "off" and not self.tag_dropout:
            raise ValueError("keep_tokens does nothing where tags are neither shuffled nor dropped: set it to 0")
        if self.resolution == ():
            raise ValueError("resolution is an empty list: give a number, several, or auto")
        if not self.masks and self.mask_floor != MASK_FLOOR:
            raise ValueError("mask_floor does nothing without masks: leave it out, or set masks to true")
        paths = [self.path, *(concept.path for concept in self.concepts)]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise ValueError(f"the set {twice} is given twice: raise its repeats instead")
        return self

    def resolutions(self, own: int) -> tuple[int, ...]:
        """resolution as numbers; `own` is the base's."""
        if isinstance(self.resolution, tuple):
            return self.resolution
        return (own if self.resolution == "auto" else int(self.resolution),)


class AdapterSection(Section):
    """What is trained beside the base."""

    method: Literal["lora"] = Field("lora", description="Adapter method.")
    rank: int = Field(16, ge=1, le=512, description="Inner size of the two LoRA matrices.")
    alpha: float | Literal["auto"] = Field("auto", description="Scale is alpha / rank. `auto`: alpha = rank, scale 1.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of rank activations set to zero while training.")
    targets: Literal["attention", "attention+ff", "transformer"] = Field(
        "transformer",
        description="UNet layers that learn: attention, with feed-forward, or with the projections around them too.",
    )
    text_encoder: bool = Field(False, description="Also train the text encoder's attention and MLP projections.")
    init: Literal["kaiming", "gaussian"] = Field("kaiming", description="How A starts; B always starts at zero.")

    @property
    def alpha_value(self) -> float:
        """alpha as a number."""
        return float(self.rank) if self.alpha == "auto" else float(self.alpha)


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


class EngineSection(Section):
    """How the step is computed. The choices that `auto` makes are written to engine.json and kept on resume."""

    graph: Literal["auto", "on", "off"] = Field(
        "auto", description="Replay forward and backward as a CUDA graph. `auto`: on a GPU."
    )
    layout: Literal["auto", "nchw", "nhwc"] = Field(
        "auto", description="Memory layout of the UNet's convolutions. `auto`: nhwc with our kernels."
    )
    attention: Literal["auto", "torch", "cudnn", "flash", "efficient", "math", "xformers"] = Field(
        "auto", description="Attention kernel. `auto`: the fastest on the card, found by a short probe."
    )
    kernels: Literal["auto", "triton", "torch"] = Field(
        "auto", description="Norms and activations of the UNet: our Triton kernels or torch. `auto`: ours on a GPU."
    )
    autotune: bool = Field(
        False, description="Let cuDNN try its convolutions out: ten seconds at the start, hardly faster after it."
    )
    checkpointing: Literal["auto", "none", "half", "full"] = Field(
        "auto",
        description="UNet blocks computed again in the backward pass: less memory, more time. `auto`: as few as fit.",
    )
    base: Literal["auto", "plain", "int8", "nf4", "streamed"] = Field(
        "auto",
        description="How the frozen UNet is held: as it is, in 8 or 4 bits, or in host memory, fetched block by block. "
        "`auto`: as it is where that fits; fewer bits change the result a little.",
    )
    memory: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto", description="Most GPU memory that the run may take, in GiB. `auto`: all there is."
    )
    deterministic: bool = Field(False, description="On a GPU too: the same file, bit for bit. Slower.")

    @model_validator(mode="after")
    def _streamed_needs_recomputation(self) -> "EngineSection":
        if self.base == "streamed" and self.checkpointing not in ("auto", "full"):
            raise ValueError(
                "base=streamed needs checkpointing=full or auto: a block's weights are gone once it is done"
            )
        return self


class SamplingSection(Section):
    """Pictures drawn while training."""

    prompts: tuple[str, ...] = Field(
        (),
        description="Sample prompts. Empty: two training captions, the trigger in a new scene, and that scene alone.",
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
    captions: bool = Field(
        True, description="Write how often each tag was used into the file. Off: nothing of the captions."
    )


class RunConfig(Section):
    """Everything a run depends on. `config.toml` in a run folder holds exactly this, with no value left out."""

    model: ModelSection = ModelSection()
    dataset: DatasetSection
    adapter: AdapterSection = AdapterSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    objective: ObjectiveSection = ObjectiveSection()
    training: TrainingSection
    engine: EngineSection = EngineSection()
    sampling: SamplingSection = SamplingSection()
    export: ExportSection = ExportSection()


def interval(every: str, total_steps: int, steps_per_epoch: float) -> int | None:
    """Turn `500`, `20%` or `2ep` into steps.

    Args:
        every: a value of the fields typed `Every`; for `auto` see `trainer.sampling.affordable_rounds`.
        total_steps: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.

    Returns:
        A number of optimiser steps, at least 1; None for `never`.
    """
    if every == "never":
        return None
    if every.endswith("%"):
        return max(1, round(float(every[:-1]) / 100 * total_steps))
    if every.endswith("ep"):
        return max(1, round(float(every[:-2]) * steps_per_epoch))
    return max(1, int(every))
