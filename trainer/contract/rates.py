"""The learning rate of every part of a run, and the settings that an optimiser takes. No torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from trainer.contract.catalog import ADAPTERS, optimizer_row

if TYPE_CHECKING:
    from trainer.contract.config import RunConfig

PRACTICE = 10.0  # times the usual rates: the small practice base takes more


def part_rate(config: "RunConfig", part: str) -> float:
    """Peak learning rate of `unet`, `text_encoder` or `text_encoder_2`, `auto` resolved."""
    options, row = config.optimizer, optimizer_row(config.optimizer.name)
    own = {
        "unet": options.learning_rate,
        "text_encoder": options.text_encoder_learning_rate,
        "text_encoder_2": options.text_encoder_2_learning_rate,
    }[part]
    if own != "auto":
        return float(own)
    if part == "unet":
        return row.rate
    if part == "text_encoder":
        return part_rate(config, "unet") * (1.0 if row.one_rate else 0.5)
    return part_rate(config, "text_encoder")


def peak_rates(config: "RunConfig", groups: Iterable[str]) -> dict[str, float]:
    """Peak learning rate of every group of an arena, such as `unet.A`; see `trainer.adapters.arena.Slot`."""
    return {group: part_rate(config, group.partition(".")[0]) * _factor(config, group) for group in groups}


def _factor(config: "RunConfig", group: str) -> float:
    return config.optimizer.lora_plus_ratio if group.endswith(".B") else 1.0


class Effective(NamedTuple):
    """How fast the update of most weights grows.

    Attributes:
        rate: learning rate x scale of the adapter.
        made: what it is made of, such as "0.0001 x alpha 8 / rank 16".
    """

    rate: float
    made: str

    def __str__(self) -> str:
        return f"effective rate {self.rate:.3g}{f' ({self.made})' if self.made else ''}"


def effective(config: "RunConfig") -> Effective:
    """The effective rate of a run; one that is found is found for any scale, and some methods have none."""
    rate, row = part_rate(config, "unet"), optimizer_row(config.optimizer.name)
    if row.one_rate:
        return Effective(rate, f"{rate:g} x what {row.title} finds")
    if "adapter.alpha" not in ADAPTERS[config.adapter.method].reads:
        return Effective(rate, f"{ADAPTERS[config.adapter.method].title} has no alpha")
    made = f"{rate:g} x {config.adapter.scale_words}"
    if (other := ADAPTERS[config.adapter.method].unscaled) and config.adapter.scale != 1:
        made += f"; {rate:g} where {other}"
    return Effective(rate * config.adapter.scale, made)


def usual_rates(config: "RunConfig") -> tuple[float, float]:
    """The least and the most that is usual for the optimiser, as an effective rate."""
    row = optimizer_row(config.optimizer.name)
    low, high = row.sensible
    return low, high * (PRACTICE if config.model.base == "demo" and not row.one_rate else 1.0)
