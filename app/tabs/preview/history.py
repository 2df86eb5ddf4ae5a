"""Everything that was drawn, as thumbnails: a click brings back the picture and all that stood in the form."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.tabs.preview.controls import filled
from app.tabs.preview.drawing import caption_html, shown_of
from app.tabs.preview.form import Form
from app.tabs.preview.grid import table_of, varied
from app.views import previews
from app.views.page import Page
from trainer.contract.grids import GridRequest

TOLD = "from the history: all settings are in the form"
SCRIPT = Path(__file__).with_name("history.js").read_text("utf-8")


def build() -> gr.HTML:
    """Lay it out. Its value is the newest entry, so that the browser asks for the list anew; its event is `restore`."""
    return gr.HTML("", html_template='<div class="history"></div>', js_on_load=SCRIPT, apply_default_css=False,
                   padding=False, elem_id="preview-history")  # fmt: skip


def restored(page: Page, entry: str) -> list[Any]:
    """Values for the bar, the stage, `Controls.all` and `Part.axes`.

    Raises:
        UserError: it is gone.
    """
    facts = previews.recall(page.home, entry)
    form = Form.read(facts["form"])
    if facts.get("grid"):
        request = GridRequest.model_validate(facts["grid"])
        return [*_again(page, entry, facts), *filled(form), *varied(page, form, request)]
    strengths = [row.strength for row in form.rows if row.on and row.file]
    return [caption_html(strengths, (), TOLD), shown_of(facts).value(), *filled(form), *[gr.skip()] * 4]


def table(page: Page, entry: str) -> list[Any]:
    """Values for the bar and the stage: a grid, while the form stays as it is.

    Raises:
        UserError: it is gone.
    """
    return _again(page, entry, previews.recall(page.home, entry))


def _again(page: Page, entry: str, facts: dict[str, Any]) -> list[Any]:
    return [caption_html((), (), "from the history"), table_of(page.home, entry, facts).value()]
