"""Pictures that are never trained on, and what is told of them."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.contract.config.section import AutoOrEvery, Section

LEAST_PICTURES = 40  # below, every one is worth more as something to learn from than as a measure


class ValidationSection(Section):
    """Pictures that are held out, and how often the loss on them is measured."""

    share: Annotated[float, Field(ge=0, le=0.5)] | Literal["auto"] = Field(
        "auto",
        description="Part of the pictures that is held out of training, 0 to 0.5. `auto`: a tenth of 40 pictures or "
        "more, at most 32; of fewer, none.",
    )
    every: AutoOrEvery = Field(
        "auto",
        description="When the loss on them is measured: steps, share of the run, epochs, `never`. `auto`: every 5%, or "
        "less often, so that it and the samples take at most a tenth of the run.",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="Chooses them. The same in two runs of a set: both are judged by the same."
    )
    stop_after: int = Field(
        0, ge=0, le=100, description="Finish after so many measurements in a row without a new lowest loss. 0: never."
    )
