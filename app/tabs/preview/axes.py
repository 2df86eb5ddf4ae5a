"""What may vary in a grid, in words, and the values that are offered for each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.tabs.preview.form import AdapterRow, Form
from app.tabs.preview.rows import blocks
from app.views import adapters, choices, sets
from trainer.contract.catalog import SAMPLERS
from trainer.contract.errors import UserError
from trainer.contract.grids import AXES, OF_FILES, Axis, Kind
from trainer.contract.rundir import RunDir, run_of

SHEET = ("0", "0.25", "0.5", "0.7", "0.85", "1", "1.2", "1.5")
ACROSS = ("0.4", "0.6", "0.8", "1", "1.2")  # beside checkpoints
NO_ADAPTER = "-"  # stands for "" in a list of values
MOST_STEPS, MOST_PROMPTS = 6, 20
WHOLE = ("prompt", *OF_FILES)  # kinds whose values may have commas
Values = Sequence[tuple[str, str]]  # (title, value)


class Offer(NamedTuple):
    """What a kind of axis offers.

    Attributes:
        title: of the kind.
        values: to choose from; others may be typed.
        first: those that stand there at first.
    """

    title: str
    values: Callable[[Path, Form], Values]
    first: Callable[[Path, Form], Sequence[str]]


def _same(*values: str) -> Callable[[Path, Form], Values]:
    return lambda home, form: [(value, value) for value in values]


def _these(*values: str) -> Callable[[Path, Form], Sequence[str]]:
    return lambda home, form: values


def first_run(home: Path, form: Form) -> RunDir | None:
    """The run of the form's first adapter, else the newest that has files."""
    for row in form.rows:
        if row.on and row.file and (run := run_of(choices.path_of(home, row.file))):
            return run
    return next((one.run for one in adapters.adapters(home) if one.run), None)


def checkpoints(run: RunDir | None) -> Values:
    """The files of a run, from its first save to its end."""
    saves = [(f"step {step}", str(path)) for step, path in run.step_files().items()] if run else []
    end = [("the end", str(run.adapter_file))] if run and run.adapter_file.is_file() else []
    return [*saves, *end]


def spread(values: Sequence[str], most: int) -> list[str]:
    """At most so many of them, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _checkpoints(home: Path, form: Form) -> Values:
    return checkpoints(first_run(home, form))


def _adapters(home: Path, form: Form) -> Values:
    return [("no adapter", NO_ADAPTER), *((one.name, str(one.path)) for one in adapters.adapters(home))]


def _chosen(home: Path, form: Form) -> list[str]:
    own = [str(choices.path_of(home, row.file)) for row in form.rows if row.file]
    return list(dict.fromkeys([*own, *(str(one.path) for one in adapters.mains(home))]))[:3]


def _prompts(home: Path, form: Form) -> Values:
    texts = [form.prompt, *prompts_of(first_run(home, form))]
    return [(text, text) for text in dict.fromkeys(filter(None, texts))][:MOST_PROMPTS]


def prompts_of(run: RunDir | None) -> list[str]:
    """What the run of an adapter knows to draw: its sample prompts, captions of its set, its trigger word."""
    if run is None:
        return []
    try:
        config = run.config()
    except UserError:
        return []
    texts = sets.captions(Path(config.dataset.path))[:MOST_PROMPTS]
    return list(filter(None, [*config.sampling.prompts, *texts, config.dataset.trigger]))


OFFERS: dict[Kind, Offer] = {
    "strength": Offer("strength", _same(*SHEET), _these("0", "0.5", "1")),
    "adapter": Offer("adapter", _adapters, _chosen),
    "checkpoint": Offer("checkpoint of a run", _checkpoints,
                        lambda home, form: spread([value for _, value in _checkpoints(home, form)], MOST_STEPS)),
    "text_encoder": Offer("text-encoder strength", _same(*SHEET), _these("0", "0.5", "1")),
    "blocks": Offer("block preset", lambda home, form: blocks(), _these("ALL", "INALL", "MIDD", "OUTALL")),
    "seed": Offer("seed", lambda home, form: [],
                  lambda home, form: [str(form.seed + more) for more in range(4)]),
    "prompt": Offer("prompt", _prompts, lambda home, form: [text for text, _ in _prompts(home, form)][:2]),
    "cfg": Offer("guidance (CFG)", _same("1", "3", "5", "7", "9"), _these("3", "5", "7")),
    "sampler": Offer("sampler", _same(*SAMPLERS), lambda home, form: list(SAMPLERS)[:3]),
    "steps": Offer("steps", _same("5", "10", "20", "30", "50"), _these("10", "20", "30")),
}  # fmt: skip


def axis(home: Path, kind: str | None, values: Sequence[str] | None) -> Axis | None:
    """What stands in the page as an axis, about the first adapter; None where nothing varies.

    Args:
        home: the data folder.
        kind: of the axis, "" for none.
        values: that were chosen and typed; numbers may be parted by commas.

    Raises:
        UserError: there are no values, or a file that is none of the user's.
    """
    if not kind:
        return None
    if kind not in AXES:
        raise UserError(f"'{kind[:50]}' is nothing that may vary", "Grid", "Choose what varies from the list.")
    given = [str(value).strip() for value in values or ()]
    if kind not in WHOLE:
        given = [part.strip() for value in given for part in value.split(",")]
    given = list(filter(None, given))
    if not given:
        title = OFFERS[kind].title
        raise UserError(f"there are no values for '{title}'", "Grid", "Choose some, or type one and press Enter.")
    if kind in OF_FILES:
        given = ["" if one == NO_ADAPTER else str(choices.path_of(home, one)) for one in given]
    if len(given) > 64:
        raise UserError(f"{len(given)} values are too many", "Grid", "Take at most 64 on an axis.")
    return Axis(kind=kind, values=tuple(given))


def with_file(form: Form, file: str) -> Form:
    """A form whose first adapter is there: axes of files need one whose place they take."""
    if any(row.on and row.file for row in form.rows):
        return form
    return form.model_copy(update={"rows": (AdapterRow(file=file),)})
