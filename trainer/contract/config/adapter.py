"""What is trained beside the base."""

from typing import Literal

from pydantic import Field

from trainer.contract.config.section import Section, Until


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
    text_encoder_until: Until = Field(
        "end", description="When the text encoder stops learning: steps, share of the run, epochs, or `end`."
    )
    init: Literal["kaiming", "gaussian"] = Field("kaiming", description="How A starts; B always starts at zero.")

    @property
    def alpha_value(self) -> float:
        """alpha as a number."""
        return float(self.rank) if self.alpha == "auto" else float(self.alpha)
