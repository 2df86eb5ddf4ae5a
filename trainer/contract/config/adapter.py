"""What is trained beside the base."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from trainer.contract.config.section import PATHS, Section, Table, Until

Rank = Annotated[int, Field(ge=1, le=512)]
Preset = Literal["query+value", "attention", "attention+ff", "transformer", "everything"]
Alpha = Annotated[float, Field(gt=0)]


class AdapterSection(Section):
    """What is trained beside the base."""

    method: str = Field("lora", description="Adapter method, by its name in the catalogue.")
    rank: int = Field(16, ge=1, le=512, description="Inner size of the two LoRA matrices.")
    alpha: Alpha | Literal["auto", "double"] = Field(
        "auto", description="Scale is alpha / rank. `auto`: alpha = rank, scale 1. `double`: twice the rank, scale 2."
    )
    rslora: bool = Field(
        False,
        description="Scale is alpha / sqrt(rank) instead: high ranks learn as fast as low ones (arXiv 2312.03732).",
    )
    text_encoder_rank: Rank | Literal["auto"] = Field("auto", description="Of the text encoder's layers. `auto`: rank.")
    text_encoder_alpha: Alpha | Literal["auto"] = Field(
        "auto", description="Of the text encoder's layers. `auto`: as the UNet's is to its rank."
    )
    conv_rank: Rank | Literal["auto"] = Field("auto", description="Of 3x3 convolutions. `auto`: rank.")
    conv_alpha: Alpha | Literal["auto"] = Field(
        "auto", description="Of 3x3 convolutions. `auto`: as that of the other layers is to their rank."
    )
    ranks: Table[Annotated[int, Field(ge=0, le=512)]] = Field(
        {},
        description='Ranks of some layers, by patterns of their paths: {"down_blocks.*" = 8, "mid_block.*" = 0}. '
        "The last that fits counts; 0 leaves them out.",
    )
    alphas: Table[Alpha] = Field(
        {}, description="Alphas of some layers, in the same way. Left out, they keep the scale that they would have."
    )
    factor: Annotated[int, Field(ge=2, le=512)] | Literal["auto"] = Field(
        "auto", description="Size of LoKr's small matrix: a larger one makes the file smaller. `auto`: a square's."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of rank activations set to zero while training.")
    rank_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of ranks left out of a layer for a whole picture while training."
    )
    module_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of layers that answer without the adapter in a training step."
    )
    max_norm: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Largest norm of a layer's update, held after every step; 1 is usual. 0: no limit.",
    )
    targets: Preset | Annotated[str, Field(pattern=PATHS)] = Field(
        "transformer",
        description="UNet layers that learn: query and value of the attention (the paper), attention, with "
        "feed-forward, with the projections around them, with all convolutions too (LoCon); or paths such as "
        "`*.attn2.to_?, mid_block.*`.",
    )
    text_encoder: bool = Field(False, description="Also train the text encoder's attention and MLP projections.")
    text_encoder_until: Until = Field(
        "end", description="When the text encoder stops learning: steps, share of the run, epochs, or `end`."
    )
    start: str = Field("", description="Adapter file to train on from: its layers, its rank or a larger one.")
    init: Literal["kaiming", "gaussian"] = Field("kaiming", description="How A starts; B always starts at zero.")

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths in `targets`; none where it is one of the choices."""
        if self.targets in get_args(Preset):
            return ()
        return tuple(pattern.strip() for pattern in self.targets.split(",") if pattern.strip())

    @property
    def spatial(self) -> bool:
        """Whether 3x3 convolutions may be among the layers."""
        return self.targets == "everything" or bool(self.patterns)

    @property
    def alpha_value(self) -> float:
        """alpha as a number."""
        factors = {"auto": 1.0, "double": 2.0}
        return self.rank * factors[self.alpha] if isinstance(self.alpha, str) else float(self.alpha)

    @property
    def scale(self) -> float:
        """What multiplies the update of most layers."""
        return self.alpha_value / (self.rank**0.5 if self.rslora else self.rank)

    @property
    def scale_words(self) -> str:
        """How that is made, such as "alpha 8 / rank 16"."""
        return f"alpha {self.alpha_value:g} / {f'sqrt(rank {self.rank})' if self.rslora else f'rank {self.rank}'}"
