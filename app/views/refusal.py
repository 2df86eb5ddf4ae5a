"""Why a run cannot go on as the same run, in plain words, and what can be done instead."""

import html
from typing import Any, NamedTuple

import gradio as gr

from app.jobs import queue
from app.jobs.queue import Entry
from app.views.page import Page, kindly, quiet
from trainer.pictures.origin import ANOTHER_RUN, accept_pictures, changed_since, only_pictures, other_layers

AS_NEW = (
    " Or continue as a new run: it begins with what this one has learned, with a fresh schedule, and this one stays as "
    "it is."
)
OTHER_LAYERS = (
    " What was learned fits only layers and ranks like those it was learned with. A new run can start from this one's "
    "finished file (adapter.start), which a larger rank takes up too."
)


class Refusal(NamedTuple):
    """The place where a refused resume is explained, with what can be done instead."""

    whole: gr.Column
    text: gr.HTML
    as_new: gr.Button
    as_begun: gr.Button


def build(page: Page, about: gr.Textbox) -> Refusal:
    """Lay it out, hidden.

    Args:
        page: see `Page`.
        about: what `amending.key` says of the run that is shown; a run that the trainer refused shows the place.
    """
    with gr.Column(visible=False, elem_id="run-refused") as whole:
        text = gr.HTML("", padding=False)
        with gr.Row(elem_classes="tight"):
            as_new = gr.Button("Continue as a new run", variant="primary", elem_id="run-as-new")
            as_begun = gr.Button("Go on with the pictures it began with", visible=False, elem_id="run-as-begun")
    as_new.click(kindly(lambda name: _as_new(page, name)), page.run, [page.run, whole], **quiet())
    as_begun.click(kindly(lambda name: _as_begun(page, name)), page.run, whole, **quiet())
    about.change(lambda name: _show(page, name), page.run, [whole, text, as_new, as_begun], **quiet())
    return Refusal(whole, text, as_new, as_begun)


def _show(page: Page, name: str) -> tuple[Any, ...]:
    item = queue.known(page.home, name)
    return refusal(item) if item and ANOTHER_RUN in item.status.message else _hidden()


def _hidden() -> tuple[Any, ...]:
    return gr.Column(visible=False), "", gr.skip(), gr.skip()


def refusal(item: Entry) -> tuple[Any, ...]:
    """Values for a `Refusal`: why a run cannot go on as the same, hidden where it can."""
    found = changed_since(item.run)
    if not found:
        return _hidden()
    other = other_layers(found)
    rows = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    text = (
        '<div class="changed wrong"><b>This cannot go on as the same run.</b> Since its last save something it is made '
        f"of has changed:<ul>{rows}</ul>Put that back and try again.{OTHER_LAYERS if other else AS_NEW}</div>"
    )
    buttons = gr.Button(visible=not other), gr.Button(visible=only_pictures(found))
    return gr.Column(visible=True), text, *buttons


def resume(page: Page, name: str) -> tuple[Any, ...]:
    """Put a run back into the queue, or say why it cannot go on as the same."""
    item = queue.entry(page.home, name)
    said = refusal(item)
    if not said[1]:
        queue.resume(page.home, name)
    return said


def _as_new(page: Page, name: str) -> tuple[str, gr.Column]:
    run = queue.go_on_as_new(page.home, name)
    gr.Info(f"{run.name} goes on from what {name} has learned.")
    return run.name, gr.Column(visible=False)


def _as_begun(page: Page, name: str) -> gr.Column:
    item = queue.entry(page.home, name)
    accept_pictures(item.run)
    queue.resume(page.home, name)
    return gr.Column(visible=False)
