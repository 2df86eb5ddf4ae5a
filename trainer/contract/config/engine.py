"""How the step is computed."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.contract.config.section import Section


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
    compile: bool = Field(
        False,
        description="Where our kernels are not used: let torch's compiler fuse the UNet, block by block, a minute or "
        "more before the first step. Given up before the run where steps are no faster or come out otherwise.",
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
