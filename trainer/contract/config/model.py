"""The frozen base model."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.contract.config.section import Section, Switch

Prediction = Literal["auto", "epsilon", "v_prediction"]
NumberType = Literal["auto", "fp32", "bf16", "fp16"]


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
