"""What the form holds of presets: read, laid into the fields, and put back."""

import html
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from app import form
from app.views import sets
from app.views.bases import NO_BASE, shelf
from app.views.presets import OWN
from trainer.contract.catalog import check_package, optimizer_row
from trainer.contract.compose import LENGTHS, compose, setting_names
from trainer.contract.config import RunConfig
from trainer.contract.presets import AUTO_RATE, DEFAULT_LENGTH, Preset, load_preset, presets
from trainer.formats.foreign import read_foreign

RATES = tuple(f"optimizer.{part}learning_rate" for part in ("", "text_encoder_", "text_encoder_2_"))
SHELVES = ("demo", "sd", "sdxl")

Components = dict[str, Any]  # setting or question -> its component


def found(base: str, name: str) -> Preset:
    """A preset; one that this base lacks is replaced by its first."""
    place = shelf(base)
    known = presets(place)
    return load_preset(name if name in known else next(iter(known)), place)


def preset_config(base: str, name: str, pace: str = DEFAULT_LENGTH) -> RunConfig:
    """The config that a preset alone gives in one of its lengths; somebody's own length is over the good one."""
    layers = found(base, name).layers("" if pace == OWN else pace)
    return compose([*layers, {"model": {"base": base or NO_BASE}, "dataset": {"path": "-"}}])


def length_of(config: RunConfig) -> tuple[str, float]:
    """The setting that a length is given in, and its value."""
    return next((name, value) for name in LENGTHS if (value := getattr(config.training, name)) is not None)


@cache
def said_by_presets() -> tuple[str, ...]:
    """The settings that are others in any preset: what another preset changes in the form, and nothing else.

    Some follow from what a preset says, as min-SNR does from its gamma: so they are taken from whole configs.

    An event costs the browser time for every field that it may change, whether it does or not.
    """
    known = [load_preset(name, place) for place in SHELVES for name in presets(place)]
    configs = [compose([*one.layers(length), {"dataset": {"path": "-"}}]) for one in known for length in one.lengths]
    differ = {name for name in setting_names() if len({repr(config.value(name)) for config in configs}) > 1}
    layers = [layer for one in known for layer in (one.layer, *one.lengths.values())]
    return tuple(sorted(differ.union(_told(layers)) - set(form.ESSENTIAL)))


@cache
def said_by_lengths() -> tuple[str, ...]:
    """The settings that any preset's lengths say something of."""
    known = [load_preset(name, place) for place in SHELVES for name in presets(place)]
    return _told([layer for one in known for layer in one.lengths.values()])


def _told(layers: Sequence[Any]) -> tuple[str, ...]:
    told = {f"{section}.{key}" for layer in layers for section, values in layer.items() for key in values}
    return tuple(sorted(told - set(form.ESSENTIAL)))


def shown(config: RunConfig, fields: Sequence[str]) -> tuple[Any, ...]:
    """What the form holds of a config: length, its unit, and these settings."""
    unit, length = length_of(config)
    return length, unit, *values(config, fields)


def values(config: RunConfig, fields: Sequence[str]) -> list[form.Plain]:
    """What the form holds of some settings."""
    return [form.to_page(form.field(key), form.value_of(config, key)) for key in fields]


def paced(chosen: tuple[str, ...], fields: Sequence[str]) -> tuple[Any, ...]:
    """What another length changes in the form: only what the preset's lengths say, all else stays as it was set.

    Args:
        chosen: base, preset, length and optimiser; rates are for the preset's own optimiser.
        fields: settings of the form.
    """
    base, name, pace, optimizer = chosen
    if pace == OWN:
        return (gr.skip(),) * (2 + len(fields))
    config = preset_config(base, name, pace)
    said = set(_told(list(found(base, name).lengths.values())))
    said -= set() if optimizer == config.optimizer.name else set(RATES)
    length, unit, *filled = shown(config, fields)
    return length, unit, *(value if key in said else gr.skip() for key, value in zip(fields, filled, strict=True))


def put_back(chosen: tuple[str, ...], setting: str, fields: Sequence[str]) -> tuple[Any, ...]:
    """One setting as the preset has it, all others as they stand."""
    filled = values(preset_config(*chosen), fields)
    return tuple(value if key == setting else gr.skip() for key, value in zip(fields, filled, strict=True))


def like(path: Path, preset: RunConfig, fields: Sequence[str]) -> tuple[Any, ...]:
    """What the form holds after another trainer's settings were put over a preset, and what was not taken.

    Raises:
        UserError: nothing in the file is known.
    """
    read = read_foreign(path)
    config = compose([preset.model_dump(exclude_none=True), read.layer], "reset")
    rows = "".join(
        f"<li><code>{html.escape(name)}</code> {html.escape(str(value)[:60])}: {html.escape(reason)}</li>"
        for name, value, reason in read.left
    )
    rest = f"Without a counterpart:<ul>{rows}</ul>" if rows else ""
    said = f'<div class="changed">{len(read.taken)} settings taken over. {rest}</div>'
    return said, *shown(config, fields)


def fit(path: str | None, chosen: str) -> str:
    """The preset that a sample set is there for, else the one that is chosen."""
    return sets.teaches(path) or chosen


def rates(base: str, preset: str, pace: str, optimizer: str) -> list[form.Plain]:
    """The preset's learning rates as another optimiser takes them."""
    given = preset_config(base, preset, pace).model_dump(exclude_none=True)
    return values(compose([given, {"optimizer": {"name": optimizer}}]), RATES)


def auto_rate(base: str, preset: str, pace: str, wanted: bool) -> list[form.Plain]:
    """Optimiser and rates: one that finds them, or the preset's.

    Raises:
        UserError: its package is not installed.
    """
    given = preset_config(base, preset, pace).model_dump(exclude_none=True)
    config = compose([given, AUTO_RATE if wanted else {}], "reset")
    check_package(optimizer_row(config.optimizer.name))
    return values(config, ("optimizer.name", *RATES))
