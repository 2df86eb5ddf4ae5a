"""What every section of the config is, and the types that several of them use."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_NUMBER = r"([1-9]\d*(\.\d+)?|0\.\d*[1-9]\d*)"  # more than nothing
PERCENT_OR_STEPS = rf"^([1-9]\d*|{_NUMBER}%|{_NUMBER}ep|never)$"
AUTO_OR_EVERY = PERCENT_OR_STEPS.replace("never", "never|auto")
STEPS_OR_END = PERCENT_OR_STEPS.replace("never", "end")
COLOUR = r"^(auto|#[0-9a-fA-F]{6})$"
PATHS = r"[.*?]"
SPELT = {  # what people are told of a text that one of these does not fit
    PERCENT_OR_STEPS: "steps (500), passes over the set (2ep), a part of the run (10%) or never",
    AUTO_OR_EVERY: "auto, steps (500), passes over the set (2ep), a part of the run (10%) or never",
    STEPS_OR_END: "steps (500), passes over the set (2ep), a part of the run (10%) or end",
    COLOUR: "auto or a colour such as #ffffff",
    PATHS: "paths of layers with . * or ?, such as down_blocks.*",
}
Every = Annotated[str, Field(pattern=PERCENT_OR_STEPS)]
AutoOrEvery = Annotated[str, Field(pattern=AUTO_OR_EVERY)]
Until = Annotated[str, Field(pattern=STEPS_OR_END)]
Switch = Literal["auto", "on", "off"]


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


def _table(given: object) -> object:
    """Say of what is no table how one is written."""
    if not isinstance(given, Mapping):
        raise ValueError("write name = value, as many as there are; in --set as {name = value, ...}")
    return given


Value = TypeVar("Value")
Table = Annotated[dict[str, Value], BeforeValidator(_table)]


def interval(every: str, total_steps: int, steps_per_epoch: float) -> int | None:
    """Turn `500`, `20%` or `2ep` into steps.

    Args:
        every: a value of the fields typed `Every` or `Until`; for `auto` see `trainer.sampling.affordable_rounds`.
        total_steps: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.

    Returns:
        A number of optimiser steps, at least 1; None for `never` and `end`.
    """
    if every in ("never", "end"):
        return None
    if every.endswith("%"):
        return max(1, round(float(every[:-1]) / 100 * total_steps))
    if every.endswith("ep"):
        return max(1, round(float(every[:-2]) * steps_per_epoch))
    return max(1, int(every))
