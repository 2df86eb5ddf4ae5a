"""The learning rate of every part of a run, and the settings that an optimiser takes. No torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer.contract.catalog import optimizer_row

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


def effective_rate(config: "RunConfig") -> float:
    """Learning rate x scale (alpha / rank): how fast the update of most weights grows.

    A rate that is found is found for any scale.
    """
    scale = 1.0 if optimizer_row(config.optimizer.name).one_rate else config.adapter.scale
    return part_rate(config, "unet") * scale


def usual_rates(config: "RunConfig") -> tuple[float, float]:
    """The least and the most that is usual for the optimiser, as an effective rate."""
    row = optimizer_row(config.optimizer.name)
    low, high = row.sensible
    return low, high * (PRACTICE if config.model.base == "demo" and not row.one_rate else 1.0)
