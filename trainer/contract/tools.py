"""What is asked of the trainer's tools for adapter files: `analyze`, `resize`, `merge`, `convert`.

Each is `python -P -m trainer NAME FILE`, FILE holding a request as JSON. It writes a `Progress` a line and its answer
as the last one (see `trainer.contract.requests`). Nothing is ever overwritten.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.contract.requests import Asked

Stored = Literal["auto", "fp16", "bf16", "fp32"]  # auto: the widest of what the files have
Form = Literal["kohya", "diffusers", "lora"]
Rank = Annotated[int, Field(ge=1, le=4096)]
Energy = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=-20, le=20)]


class ToolRequest(Asked):
    """What all tools are told.

    Attributes:
        base: base model, for files whose layers cannot be told without it and for methods whose change depends on it;
            "" for none.
        device: where matrices are taken apart; `auto` takes a GPU for whole matrices only, small ones are quicker on
            the processor.
    """

    base: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class AnalyzeRequest(ToolRequest):
    """How much of its rank an adapter uses."""

    file: str


class ResizeRequest(ToolRequest):
    """An adapter with another rank: the best of that rank, layer by layer.

    Attributes:
        file: adapter file.
        rank: of every layer that has more.
        energy: share of its squared singular values that every layer keeps.
        out: file to write.
        dtype: of the file.
    """

    file: str
    rank: Rank | None = None
    energy: Energy | None = None
    out: str
    dtype: Stored = "auto"

    @model_validator(mode="after")
    def _one(self) -> "ResizeRequest":
        if (self.rank is None) == (self.energy is None):
            raise ValueError("give either a rank or an energy")
        return self


class Weighted(Asked):
    """An adapter file and its strength in a mix."""

    file: str
    strength: Strength = 1.0


class MergeRequest(ToolRequest):
    """Several adapters as one, or built into a base.

    Attributes:
        adapters: what is added up.
        rank: of the result, by SVD; None for ranks side by side, which loses nothing.
        into: base model, as in `model.base`, that the sum is added to; "" for an adapter file.
        out: file to write, or folder where the base is one.
        dtype: of an adapter file; a base keeps its own.
    """

    adapters: tuple[Weighted, ...] = Field(min_length=1, max_length=32)
    rank: Rank | None = None
    into: str = ""
    out: str
    dtype: Stored = "auto"


class ConvertRequest(ToolRequest):
    """The same adapter under other names, in another number type, or as a plain LoRA.

    Attributes:
        file: adapter file.
        to: names of kohya, names of diffusers (PEFT), or a plain LoRA of a file of another method.
        rank: most that a plain LoRA gets; None for what it takes to be within 4 %, up to 128.
        out: file to write.
        dtype: of the file.
    """

    file: str
    to: Form = "kohya"
    rank: Rank | None = None
    out: str
    dtype: Stored = "auto"
