"""Change this run, also while it runs: its length, its checkpoints, its sample pictures."""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.jobs import queue
from app.jobs.model import BUSY, RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import amending
from app.views.lengths import UNITS
from app.views.page import Page, kindly, quiet
from trainer.contract.amendments import ask, config_now
from trainer.contract.compose import LENGTHS
from trainer.contract.errors import UserError

EVERY = ["10%", "20%", "25%", "50%", "never"]
HINT = "Length: of the whole run. Every: steps (500), a share of the run (20%) or passes over the set (2ep)."
CHANGEABLE = (*BUSY, *RESUMABLE, Shown.WAITING)


def build(page: Page, about: gr.Textbox) -> None:
    """Lay out the part.

    Args:
        page: see `Page`.
        about: what `amending.key` says of the run that is shown; the part follows it.
    """
    filled = gr.Textbox("", visible="hidden")  # the run whose settings stand in the fields, and what they were
    with gr.Accordion("Change this run", open=False, visible=False, elem_id="run-change") as whole:
        with gr.Row():
            length = gr.Number(label="Length", elem_id="change-length", min_width=90)
            unit = gr.Dropdown(UNITS, value="steps", label="counted in", elem_id="change-unit", min_width=150)
            saves, samples = (
                gr.Dropdown(words, label=label, allow_custom_value=True, elem_id=element, min_width=110)
                for words, label, element in (
                    (EVERY, "Save every", "change-saves"), (["auto", *EVERY], "Sample every", "change-samples"))
            )  # fmt: skip
        gr.HTML(f'<div class="hint">{HINT}</div>')
        prompts = gr.Textbox(label="Sample prompts", lines=2, max_lines=6, placeholder="one a line; empty: the usual",
                             elem_id="change-prompts")  # fmt: skip
        apply = gr.Button("Apply", variant="primary", elem_id="change-apply")
    told = gr.HTML("", elem_id="change-told", padding=False)
    fields = [length, unit, saves, samples, prompts]
    asked = [page.run, filled, *fields]
    about.change(lambda *values: _show(page, *values), asked, [whole, told, filled, *fields], **quiet())
    apply.click(kindly(lambda *values: _applied(page, *values)), asked, [told, filled, *fields], **quiet())


def _show(page: Page, name: str, filled: str, *fields: Any) -> tuple[Any, ...]:
    """The part as a run needs it; what somebody is changing in the fields stays, unless it is meant for another run."""
    item = queue.known(page.home, name)
    if item is None:
        return gr.Accordion(visible=False), "", "", *[gr.skip()] * len(fields)
    edited = filled and json.loads(filled)[0] == name and json.loads(filled)[1] != list(fields)
    values = [gr.skip()] * (len(fields) + 1) if edited else _fill(item)
    return gr.Accordion(visible=item.shown in CHANGEABLE), amending.told_html(item.run), *values


def _fill(item: Entry) -> list[Any]:
    values = _values(item)
    return [json.dumps([item.run.name, values]), *values]


def _values(item: Entry) -> list[Any]:
    config = config_now(item.run)
    unit = next(one for one in LENGTHS if getattr(config.training, one) is not None)
    return [getattr(config.training, unit), unit, config.training.save_every, config.sampling.every,
            "\n".join(config.sampling.prompts)]  # fmt: skip


def _applied(page: Page, name: str, filled: str, *fields: Any) -> tuple[Any, ...]:
    item = queue.entry(page.home, name)
    gr.Info(apply(item, *touched(json.loads(filled)[1], fields, _values(item))))
    return amending.told_html(item.run), *_fill(item)


def touched(before: Sequence[Any], fields: Sequence[Any], now: Sequence[Any]) -> list[Any]:
    """What is asked for: fields that were edited as they stand, the others as the run has them now.

    Somebody else may have changed the run since they were filled. The first two belong together.

    Args:
        before: what the fields were filled with.
        fields: what stands in them.
        now: what they would be filled with now.
    """
    length = fields[:2] if list(fields[:2]) != list(before[:2]) else now[:2]
    rest = zip(before[2:], fields[2:], now[2:], strict=True)
    return [*length, *(new if own == old else own for old, own, new in rest)]


def apply(item: Entry, length: float | None, unit: str, saves: str, samples: str, prompts: str) -> str:
    """Ask a run for what differs from its settings; return what becomes of it, in words.

    Raises:
        UserError: a value that is none, or no length above what the run has done; or it is done.
    """
    if item.shown not in CHANGEABLE:
        raise UserError(f"'{item.run.name}' is {item.shown}", "change", "Use 'Continue longer'.")
    config = config_now(item.run)
    changes = amending.differing(
        config, (unit, length), {amending.SAVES: saves, amending.SAMPLES: samples}, prompts or ""
    )
    if not changes:
        return "Nothing differs from what the run does already."
    ask(item.run, changes)
    when = "after the step that is under way" if item.shown in BUSY else "when it goes on"
    return f"{amending.words(changes)}: from {when}."
