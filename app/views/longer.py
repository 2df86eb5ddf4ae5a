"""Continue a run for longer than it was planned, with the learning rate drawn first."""

import html
from typing import Any

import gradio as gr
import pandas as pd

from app.jobs import queue
from app.jobs.model import RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import amending, curves, progress
from app.views.page import Page, in_turn, kindly, quiet
from app.views.refusal import Refusal, refusal
from trainer.contract.amendments import Rate, config_now
from trainer.contract.errors import UserError

COUNTED = [("more steps", "more"), ("steps in all", "all")]
REWARM = ("warm up again", "rewarm")
DEFAULT = 100


def build(page: Page, about: gr.Textbox, refused: Refusal) -> None:
    """Lay out the part.

    Args:
        page: see `Page`.
        about: what `amending.key` says of the run that is shown; the part follows it.
        refused: is shown where the run cannot go on.
    """
    filled = gr.Textbox("", visible="hidden")  # the run that the number is meant for
    with gr.Accordion("Continue longer", open=False, visible=False, elem_id="run-longer") as whole:
        with gr.Row():
            number = gr.Number(DEFAULT, label="How long", elem_id="longer-number", min_width=90)
            counted = gr.Dropdown(COUNTED, value="more", label="counted as", elem_id="longer-counted", min_width=130)
            rate = gr.Radio([("hold the final rate", "hold"), REWARM], value="hold", label="Learning rate",
                            elem_id="longer-rate", min_width=240, scale=2)  # fmt: skip
        plot = curves.plot("Learning rate", "rate", 200, "longer-plot")
        words = gr.HTML("", elem_id="longer-words", padding=False)
        go = gr.Button("Continue", variant="primary", elem_id="longer-go")
    asked, drawn = [page.run, number, counted, rate], [plot, words, go]
    about.change(lambda *chosen: _show(page, *chosen), [filled, *asked],
                 [whole, filled, number, counted, rate, *drawn], **quiet())  # fmt: skip
    gr.on([number.input, counted.input, rate.input], lambda *chosen: _draw(page, *chosen), asked, drawn,
          **in_turn("run-longer"))  # fmt: skip
    go.click(kindly(lambda *chosen: _continue(page, *chosen)), asked, [*refused], **quiet())


def _show(page: Page, before: str, name: str, number: float | None, counted: str, rate: Rate) -> tuple[Any, ...]:
    """The part as a run needs it; what was typed stays, unless it was meant for another run."""
    item = queue.known(page.home, name)
    if item is None or not can_continue(item):
        return gr.Accordion(visible=False), "", *[gr.skip()] * 6
    now = amending.standing(item, progress.track(item.run))
    if before != name:
        number, counted, rate = max(1, round(now.total / 2)), "more", "hold"
    hold = "hold the final rate" if now.step >= now.total else "stretch the rest of the curve"
    chosen = [number, counted, gr.Radio([(hold, "hold"), REWARM], value=rate)]
    return gr.Accordion(visible=True), name, *chosen, *_draw(page, name, number, counted, rate)


def can_continue(item: Entry) -> bool:
    """Whether a run has ended, and has learned something."""
    return item.shown in (*RESUMABLE, Shown.DONE) and bool(progress.track(item.run).steps)


def _draw(page: Page, name: str, number: float | None, counted: str, rate: Rate) -> tuple[Any, ...]:
    """(curve, words, button) of what would be done; a mistake stands in the place of the words."""
    try:
        table, words = preview(queue.entry(page.home, name), number, counted, rate)
    except UserError as error:
        said = html.escape(str(error)).replace("\n", "<br>")
        return None, f'<div class="changed wrong">{said}</div>', gr.Button(interactive=False)
    return table, f'<div class="hint">{html.escape(words)}</div>', gr.Button(interactive=True)


def preview(item: Entry, number: float | None, counted: str, rate: Rate) -> tuple[pd.DataFrame, str]:
    """The learning rate of a run that goes on longer, and what that comes to in words.

    Raises:
        UserError: the number is none, or no more than the run has done.
    """
    found = progress.track(item.run)
    now = amending.standing(item, found)
    total = amending.wanted_total(now, number, counted)
    table = amending.rates_ahead(config_now(item.run), found, now, total, rate)
    return table, amending.ahead_words(found, now, total, table)


def _continue(page: Page, name: str, number: float | None, counted: str, rate: Rate) -> tuple[Any, ...]:
    item = queue.entry(page.home, name)
    if not can_continue(item):
        raise UserError(f"'{name}' is {item.shown}", "continue longer", "Change its length under 'Change this run'.")
    now = amending.standing(item, progress.track(item.run))
    total = amending.wanted_total(now, number, counted)
    said = refusal(item)
    if not said[1]:
        queue.go_on_longer(page.home, name, total, rate)
        gr.Info(f"{name} goes on to step {total}.")
    return said
