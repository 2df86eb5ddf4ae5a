"""What can still be changed about a run, in words and as a curve; the page's parts are in `changing` and `longer`."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from app.jobs.model import RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import curves
from app.views.progress import Track
from trainer.contract import amendments
from trainer.contract.amendments import (
    Amendment,
    Rate,
    check_total,
    config_now,
    joined,
    pending,
    place,
    read_amendments,
    says_length,
    steps_done,
)
from trainer.contract.compose import Layer
from trainer.contract.config import AUTO_OR_EVERY, PERCENT_OR_STEPS, SPELT, RunConfig
from trainer.contract.errors import UserError
from trainer.contract.length import Length
from trainer.contract.rates import part_rate
from trainer.contract.rundir import RunDir
from trainer.contract.schedules import share
from trainer.pictures.origin import ANOTHER_RUN

SAVES, SAMPLES, PROMPTS = "training.save_every", "sampling.every", "sampling.prompts"
WORDS = {
    "training.steps": "{} steps in all",
    "training.epochs": "{} passes over the set in all",
    "training.views": "each picture seen {} times in all",
    SAVES: "a checkpoint every {}",
    SAMPLES: "sample pictures every {}",
}
FEW = 0.02  # of the highest rate so far: below that next to nothing is learned


class Standing(NamedTuple):
    """Where a run would go on.

    Attributes:
        step: optimiser steps done at its last save.
        total: of the whole run, as it is planned now.
        first: of the whole run, as it was begun.
        changes: made since.
    """

    step: int
    total: int
    first: int
    changes: tuple[Amendment, ...]


def standing(item: Entry, found: Track) -> Standing:
    """See `Standing`."""
    changes = read_amendments(item.run)
    saved, asked, total = steps_done(item.run), pending(item.run), item.status.total
    if asked is not None and says_length(asked.changes):
        total = max(saved, steps_of(config_now(item.run), found) or total)
    first = found.first or (changes[0].total if changes else item.status.total)
    return Standing(saved, total, first, changes)


def steps_of(config: RunConfig, found: Track) -> int | None:
    """A config's length in optimiser steps, as the run itself has measured its pictures; None before it has."""
    return amendments.steps_of(config, found.preflight.length if found.preflight else None)


def key(item: Entry) -> str:
    """A text that differs where what can be changed about a run, or has been, differs."""
    asked = pending(item.run)
    saved = "" if item.shown not in (*RESUMABLE, Shown.DONE) else str(item.status.step)
    refused = ANOTHER_RUN in item.status.message
    parts = (item.run.name, item.shown, saved, len(read_amendments(item.run)), asked.key if asked else "", refused)
    return "/".join(map(str, parts))


def differing(config: RunConfig, length: tuple[str, Any], every: Mapping[str, str], prompts: str) -> Layer:
    """What somebody wants otherwise than a config has it.

    Args:
        config: with all changes so far.
        length: (unit, number).
        every: setting -> when, such as "50", "20%", "2ep", "never".
        prompts: one a line.

    Raises:
        UserError: a length or a rhythm that is none.
    """
    layer: dict[str, dict[str, Any]] = {}
    unit, number = length
    count = _count(unit, number)
    if count != getattr(config.training, unit):
        layer["training"] = {unit: count}
    for name, text in every.items():
        pattern = AUTO_OR_EVERY if name == SAMPLES else PERCENT_OR_STEPS
        if not re.fullmatch(pattern, wanted := str(text or "").strip()):
            raise UserError(f"'{wanted}' is no number of steps", name, f"Write {SPELT[pattern]}.")
        if wanted != config.value(name):
            section, _, own = name.partition(".")
            layer.setdefault(section, {})[own] = wanted
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if lines != list(config.sampling.prompts):
        layer.setdefault("sampling", {})["prompts"] = lines
    return layer


def _count(unit: str, number: float | None) -> float:
    if number is None or number <= 0:
        raise UserError(f"'{'' if number is None else f'{number:g}'}' is no length", "Length", "Give more than 0.")
    if unit != "epochs" and number != int(number):
        raise UserError(f"'{number:g}' is no whole number of {unit}", "Length", "Give a whole number.")
    return int(number) if number == int(number) else number


def words(changes: Layer) -> str:
    """Changes in words, such as "300 steps in all, a checkpoint every 50"."""
    said = []
    for section, values in changes.items():
        for own, value in values.items():
            name = f"{section}.{own}"
            said.append(_said(name, value))
    return ", ".join(said)


def _said(name: str, value: Any) -> str:
    if name == PROMPTS:
        return f"{len(value)} sample prompt{'s' * (len(value) != 1)}" if value else "the usual sample prompts"
    if name in (SAVES, SAMPLES) and value in ("never", "auto"):
        what = "no checkpoints on the way" if name == SAVES else "no sample pictures"
        return what if value == "never" else "sample pictures as often as they are cheap"
    pattern = WORDS.get(name)
    return pattern.format(value) if pattern else f"{name} = {value}"


def told_html(run: RunDir) -> str:
    """HTML: every change since a run began, with the step it counts from; nothing where there is none."""
    rows = [f"From step <b>{one.step}</b>: {html.escape(words(one.changes))}" for one in read_amendments(run)]
    asked = pending(run)
    rows += [f"Asked for, from the next step or start on: {html.escape(words(asked.changes))}"] if asked else []
    return f'<div class="changed">Changed since it began:<ul>{"".join(f"<li>{row}</li>" for row in rows)}</ul></div>' \
        if rows else ""  # fmt: skip


def wanted_total(now: Standing, number: float | None, counted: str) -> int:
    """Optimiser steps that a run is to have, from "so many more" or "so many in all".

    Raises:
        UserError: no number, or not more than it has done.
    """
    whole = int(_count("steps", number))
    total = now.total + whole if counted == "more" else whole
    check_total(total, now.step)
    return total


def rates_ahead(config: RunConfig, found: Track, now: Standing, total: int, rate: Rate) -> pd.DataFrame:
    """The learning rate of a run that goes on to `total` steps: past steps as they were, the others as chosen.

    Of the UNet, or where that is not trained, of a text encoder; others rise and fall with it.
    """
    changes = joined(now.changes, Amendment("", {}, rate, now.step, total))

    def share_at(step: int, made: Sequence[Amendment]) -> float:
        at, length = place(now.first, made, step)
        return share(config, length)(at)

    done = [step for step in sorted(found.rates) if step <= now.step]
    parts = found.rates[done[-1]] if done else {}
    part = "unet" if "unet" in parts or not parts else next(iter(parts))
    past = [(step, found.rates[step][part]) for step in done if part in found.rates[step]]
    before = share_at(past[-1][0] - 1, now.changes) if past else 0.0
    peak = past[-1][1] / before if before else part_rate(config, part)  # what an optimiser has found is in it
    every = max(1, (total - now.step) // curves.POINTS)
    steps = sorted({*range(now.step + 1, total + 1, every), total})
    ahead = [(step, peak * share_at(step - 1, changes)) for step in steps]
    line = [*past[-1:], *ahead]
    return curves.table([*curves.named(curves.thinned(past), curves.PAST), *curves.named(line, curves.AHEAD)])


def ahead_words(found: Track, now: Standing, total: int, drawn: pd.DataFrame) -> str:
    """What going on comes to: steps, passes, views; and a warning where the rate is next to nothing."""
    length = found.preflight.length if found.preflight else None
    words = f"From step {now.step} on" + (f", instead of {now.total}" if now.step < now.total != total else "")
    part = total / length.steps if length else 0
    words += f": {Length(total, part * length.epochs, part * length.views).words() if length else f'{total} steps'}"
    ahead = drawn[(drawn["line"] == curves.AHEAD) & (drawn["step"] > now.step)]["value"]
    highest = max(drawn["value"], default=0.0)
    if highest and max(ahead) < FEW * highest:
        words += (f". The rate stays below {max(ahead):.2g}, {100 * max(ahead) / highest:.2g} % of its peak: next to "
                  "nothing is learned at that. Warm up again to learn more")  # fmt: skip
    return words + "."
