"""The memory ladder: the ways to hold and compute the UNet, from the fastest to the leanest.

Recomputation gives the same file, bit for bit; a base that is stored in fewer bits changes the result a little, so
`auto` takes one only where nothing else fits.
"""

from collections.abc import Collection
from dataclasses import dataclass

from trainer.contract.config import EngineSection


@dataclass(frozen=True)
class Rung:
    """One way.

    Attributes:
        share: of the UNet's blocks that are computed again in the backward pass: none, half, full.
        base: how the frozen weights are stored: plain, int8, nf4, streamed.
        words: what is done, for people.
    """

    share: str
    base: str
    words: str


_INT8 = "the frozen UNet is held in 8 bits (int8)"
_NF4 = "the frozen UNet is held in 4 bits (NF4)"
RUNGS: dict[str, Rung] = {
    "none": Rung("none", "plain", "nothing is computed again"),
    "half": Rung("half", "plain", "half of the UNet's blocks are computed again in the backward pass"),
    "full": Rung("full", "plain", "all of the UNet's blocks are computed again in the backward pass"),
    "int8-none": Rung("none", "int8", _INT8),
    "int8-half": Rung("half", "int8", f"{_INT8}, half of its blocks are computed again"),
    "int8": Rung("full", "int8", f"{_INT8}, all of its blocks are computed again"),
    "nf4-none": Rung("none", "nf4", _NF4),
    "nf4-half": Rung("half", "nf4", f"{_NF4}, half of its blocks are computed again"),
    "nf4": Rung("full", "nf4", f"{_NF4}, all of its blocks are computed again"),
    "streaming": Rung("full", "streamed", "the frozen UNet stays in host memory (int8) and is fetched block by block"),
}


def choices(options: EngineSection, missing: Collection[str] = ()) -> list[str]:
    """The rungs that the settings allow, from the fastest to the leanest.

    Args:
        options: `checkpointing` and `base`.
        missing: bases that cannot be had here; passed over where `base` is left open.
    """

    def allowed(rung: Rung) -> bool:
        if options.base == "auto" and rung.base in missing:
            return False
        if options.checkpointing != "auto":
            return rung.share == options.checkpointing and options.base in ("auto", rung.base)
        if options.base == "auto":
            return rung.base == "plain" or rung.share == "full"
        return rung.base == options.base

    return [name for name, rung in RUNGS.items() if allowed(rung)]


def lower(name: str, options: EngineSection, missing: Collection[str] = ()) -> str | None:
    """The next leaner rung, None if there is none.

    More is computed again than was asked for, since that changes nothing in the file; but a base that was chosen is
    kept.
    """
    order = list(RUNGS)
    leaner = choices(options.model_copy(update={"checkpointing": "auto"}), missing)
    return next((other for other in leaner if order.index(other) > order.index(name)), None)
