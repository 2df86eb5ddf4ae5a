"""What other tabs send here: an adapter to try, a finished run whose sheet is to be drawn."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.tabs.preview import axes, grid, rows
from app.tabs.preview.controls import Controls
from app.tabs.preview.form import AdapterRow, Form
from app.views import adapters, choices
from app.views.page import Page, kindly, quiet
from app.views.sheets import CHECKPOINTS, asked
from trainer.contract.rundir import run_of


def wire(page: Page, controls: Controls, part: grid.Part, drawn: dict[str, Any], tabled: dict[str, Any]) -> None:
    """Take what is sent, and draw it."""
    filled = [controls.rows, controls.base, controls.prompt]

    def sheet(word: str, values: dict[Any, Any]) -> Any:
        return _sheet(page, controls.read(values), word)

    page.adapter.change(kindly(lambda path: invited(page, path)), page.adapter, filled, **quiet()).then(**drawn)
    page.sheet.change(
        kindly(lambda values: sheet(values[page.sheet], values)), {page.sheet, *controls.all},
        [*filled, *part.axes], **quiet(),
    ).then(**tabled)  # fmt: skip

    def choose(event: gr.EventData, prompt: str) -> Any:
        """An adapter that is chosen by hand brings its base along, and a prompt where there is none."""
        _, base, text = invited(page, str(choices.path_of(page.home, str(event.file))) if event.file else "")
        return base, gr.skip() if prompt.strip() else text

    controls.rows.choose(kindly(choose), controls.prompt, [controls.base, controls.prompt], **quiet())


def invited(page: Page, path: str) -> Any:
    """Rows, base and prompt for an adapter: the base it was trained on, a prompt of its own pictures."""
    if not path:
        return gr.skip(), gr.skip(), gr.skip()
    run = run_of(adapters.find(page.home, path).path)
    row = rows.dumped((AdapterRow(file=path),))
    if run is None:
        return row, gr.skip(), gr.skip()
    return row, run.config().model.base, next(iter(axes.prompts_of(run)), "a picture")


def _sheet(page: Page, form: Form, word: str) -> Any:
    """What stands in the form and in the grid for a sheet of a finished run."""
    kind, path = asked(word)
    if not path:
        return [gr.skip()] * 7
    row, base, prompt = invited(page, path)
    run = run_of(Path(path))
    form = form.model_copy(update={"rows": (AdapterRow(file=path),), "prompt": prompt if run else form.prompt})
    if kind == CHECKPOINTS:
        chosen: list[Any] = [("strength", axes.ACROSS), ("checkpoint", None)]
    else:
        texts = axes.prompts_of(run)[:3]
        chosen = [("strength", axes.SHEET), ("prompt", texts) if len(texts) > 1 else ("", None)]
    return [row, base, prompt, *grid.said(page, form, chosen)]
