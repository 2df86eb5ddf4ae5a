"""What a run would be and take, told before it is started: estimates, which say what they are made of."""

import html
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

from app.views.bases import NO_BASE, facts, shelf
from app.views.eyes import EYES, kind_of
from app.views.lengths import Planned
from app.views.paces import area_of, pace_of
from app.views.sets import count
from app.views.shapes import bars_html
from trainer.contract.card import CardMemory, first_card
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.ladder import RUNGS
from trainer.contract.preflight import GIB, about, pace
from trainer.contract.presets import Preset
from trainer.contract.rates import effective
from trainer.formats.bases import find_base
from trainer.formats.needs import Needs, layers_of, needs_of

PROCESS = 0.5 * GIB  # of a trainer on a processor, before it has loaded anything
FAMILY = {"demo": "sd1", "sd": "sd1", "sd-768": "sd2", "sdxl": "sdxl"}  # kind of base -> family
LATENT = 8  # pixels of a latent one, a side


class Machine(NamedTuple):
    """Where a run would go.

    Attributes:
        card: None for the processor.
        free, total: bytes of memory there.
    """

    card: CardMemory | None
    free: int
    total: int


def machine_of(config: RunConfig) -> Machine:
    """What this machine has for a run now."""
    card = None if config.model.device == "cpu" else first_card()
    if card:
        return Machine(card, card.free, card.total)
    memory = psutil.virtual_memory()
    return Machine(None, memory.available, memory.total)


def plan_html(home: Path, config: RunConfig, preset: Preset, planned: Planned | None) -> str:
    """HTML: length, pictures, time, memory and file of a run.

    Args:
        home: data folder; its runs tell how fast this machine is.
        config: of the run.
        preset: that it was made from.
        planned: what is known of its pictures; None where there are none yet.
    """
    rows = _lengths(config, planned)
    if config.model.base == NO_BASE:
        rows += [("Base", "<b>Choose a base model above:</b> time, memory and file depend on it.")]
    elif planned:
        here = machine_of(config)
        rows += [("Time", _time(home, config, preset, planned, here))]
        rows += _sizes(config, planned, here)
    cells = "".join(f"<tr><th>{name}</th><td>{words}</td></tr>" for name, words in rows)
    return f'<div class="plan-card" id="train-lengths"><b>The plan</b><table>{cells}</table></div>'


def _lengths(config: RunConfig, planned: Planned | None) -> list[tuple[str, str]]:
    rate = html.escape(str(effective(config)))
    if planned is None:
        return [("Length", "told as soon as pictures are chosen"), ("Rate", rate)]
    held = f"{planned.held_out} held out, to measure with" if planned.held_out else "none held out"
    shapes = len(planned.rows)
    seen = f"{count(planned.pictures, 'picture')} in {count(shapes, 'shape')}, {held}"
    bars = f"<details><summary>{seen}</summary>{bars_html(planned.rows)}</details>"
    return [("Length", html.escape(planned.length.words())), ("Pictures", bars), ("Rate", rate)]


def _time(home: Path, config: RunConfig, preset: Preset, planned: Planned, here: Machine) -> str:
    own, batch = _side(config), config.training.batch_size * config.training.accumulation
    found = pace_of(home, config, preset, own)
    if found is None:
        return "measured before the first step"
    area = area_of(config, own)
    seconds = found.seconds(planned.length.steps, batch, area)
    step = pace(batch * area / found.area / found.pictures)
    if not found.machine:
        return f"{about(seconds)} ({step}), as the last run with this base took here"
    told = f"{about(seconds)} ({step}) on {html.escape(found.machine)}"
    if here.card is None and "core" not in found.machine:
        return f"{told}. <b>No graphics card is seen here: on a processor it takes days.</b>"
    return f"{told}; sample pictures come on top. This machine is measured before the first step."


def _side(config: RunConfig) -> int:
    return EYES[kind_of(config.model.base)].resolutions[0]


def _sizes(config: RunConfig, planned: Planned, here: Machine) -> list[tuple[str, str]]:
    try:
        need = needs(config, here)
    except UserError as error:  # it is said in full where the run starts
        return [("Memory", html.escape(error.problem))]
    if here.card:
        where, most = f"of {here.total / GIB:.0f} GiB on {html.escape(here.card.name)}", need.memory
    else:
        where, most = f"of this machine's {here.total / GIB:.0f} GiB", need.memory + int(PROCESS)
    words = f"about {most / GIB:.1f} GiB {where}, {here.free / GIB:.1f} free; {RUNGS[need.rung].words}"
    if most > here.free or not need.fits:
        words = f"<b>More than is free:</b> {words}. Close what is not needed, or take a smaller batch or resolution."
    file = f"about {_bytes(need.file)}" if need.file else "told at the end: it depends on the layers' shapes"
    more = ", one more at each save" if config.export.each_save and config.training.save_every != "never" else ""
    return [("Memory", words), ("File", f"{file}, {config.export.dtype}{more}")]


def needs(config: RunConfig, here: Machine) -> Needs:
    """What a run takes there; `trainer.formats.needs` says how.

    Raises:
        UserError: its base is not sound, or its settings fit no layer.
    """
    base, side = config.model.base, _side(config)
    kind = kind_of(base)
    found = facts(base) if base != "demo" else None
    family = found.family if found else FAMILY.get(kind, "sdxl" if shelf(base) == "sdxl" else "sd1")
    path = None if base == "demo" else find_base(base)
    changed = path.stat().st_mtime_ns if path else 0
    pixels = int(config.training.batch_size * area_of(config, side) / LATENT**2)
    return _needs(path, changed, family, config.model_dump_json(), pixels, here.free // 2**26 if here.card else None)


@lru_cache(maxsize=64)
def _needs(path: Path | None, changed: int, family: str, config: str, pixels: int, free: int | None) -> Needs:
    """The form asks at every key, and the headers of a folder are megabytes; `free` in steps of 64 MiB."""
    run = RunConfig.model_validate_json(config)
    layers = layers_of(path, family, run.model.base == "demo")
    return needs_of(layers, run, family, pixels, None if free is None else free * 2**26)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
