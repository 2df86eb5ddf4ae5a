"""The learning rate of every part of a run, and what is wrong or unwise about it. No torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer.contract.catalog import optimizer_row
from trainer.contract.errors import UserError
from trainer.contract.schedules import schedule_name

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
    """Learning rate x alpha / rank: how fast the update of a weight grows; one that is found is found for any alpha."""
    options = config.adapter
    scale = 1.0 if optimizer_row(config.optimizer.name).one_rate else options.alpha_value / options.rank
    return part_rate(config, "unet") * scale


def usual_rates(config: "RunConfig") -> tuple[float, float]:
    """The least and the most that is usual for the optimiser, as an effective rate."""
    row = optimizer_row(config.optimizer.name)
    low, high = row.sensible
    return low, high * (PRACTICE if config.model.base == "demo" and not row.one_rate else 1.0)


def check_rates(config: "RunConfig") -> None:
    """Refuse rates and averages that contradict each other or the optimiser.

    Raises:
        UserError: says which, and what to do.
    """
    options, row = config.optimizer, optimizer_row(config.optimizer.name)
    if row.one_rate:
        if options.lora_plus_ratio != 1:
            problem = f"{row.title} finds one rate for all matrices, and LoRA+ asks for two"
            raise UserError(problem, "optimizer.lora_plus_ratio", "Set it to 1, or take another optimiser.")
        trained = ("unet", "text_encoder", "text_encoder_2") if config.adapter.text_encoder else ("unet",)
        if len({part_rate(config, part) for part in trained}) > 1:
            problem = f"{row.title} finds one rate for all parts, and different ones are asked for"
            raise UserError(problem, "optimizer.text_encoder_learning_rate", "Set the text encoders' rates to auto.")
    if config.training.ema and row.averages:
        problem = f"{row.title} keeps an average of its own, and training.ema asks for another"
        raise UserError(problem, "training.ema", "Set it to 0, or take another optimiser.")


def rate_warnings(config: "RunConfig") -> list[str]:
    """Sentences about rates that are allowed, but hardly meant."""
    options, row = config.optimizer, optimizer_row(config.optimizer.name)
    said = []
    rate, (low, high) = effective_rate(config), usual_rates(config)
    if not low <= rate <= high:
        effect = "will do next to nothing" if rate < low else "is likely to destroy the adapter"
        said.append(
            f"optimizer.learning_rate: an effective rate of {rate:g} (rate x alpha / rank) {effect} with {row.title}; "
            f"usual is {low:g} to {high:g}, auto takes {row.rate:g}"
        )
    if row.averages and schedule_name(config) != "constant":
        said.append(f"schedule.name: {row.title} does without a schedule and learns less with one; set it to auto")
    if config.training.ema and not config.export.ema:
        said.append("training.ema: the average is kept, but neither samples nor file use it; set export.ema too")
    if config.export.ema and not config.training.ema:
        said.append("export.ema: no average is kept; set training.ema too, for example to 0.999")
    if config.adapter.text_encoder_until != "end" and not config.adapter.text_encoder:
        said.append("adapter.text_encoder_until: the text encoder is not trained; set adapter.text_encoder too")
    if options.lora_plus_ratio > 1 and rate * options.lora_plus_ratio > high:
        said.append(
            f"optimizer.lora_plus_ratio: B learns at {rate * options.lora_plus_ratio:g}, usual is up to {high:g}"
        )
    return said
