"""Dataset: put pictures in, see what training will see of them, write their captions."""

from pathlib import Path
from urllib.parse import quote

import gradio as gr

from app.tabs.dataset import bulk, captioner, concepts, crops, doctor, editor, history, importing, trigger
from app.tabs.dataset.desk import Desk, hidden
from app.views import sets
from app.views.page import Page, empty

ID = "dataset"
EMPTY = empty(
    "No pictures here yet", "Drop ten to thirty pictures, a folder or a zip above; or begin with sample pictures."
)


def build(page: Page) -> None:
    """Lay out the tab."""
    names = ("picture-id", "caption-before", "chosen", "meant", "told", "number", "changed", "wanted", "words", "visit")
    desk, captioning = Desk(page, *map(hidden, names)), hidden("captioning")
    importing.build(desk)
    history.build(desk)
    nothing = gr.HTML(EMPTY)
    with gr.Column(visible=False, elem_id="dataset-editor") as area:
        trigger.build(desk)
        words, eye = editor.build(desk)
        bulk.build(desk, words)
        captioner.build(desk, captioning)
        concepts.build(desk)
        crops.build(desk, eye)
        doctor.build(desk, eye)
        download = gr.HTML("", elem_id="dataset-download", apply_default_css=False)

    def show(path: str) -> tuple[gr.HTML, gr.Column, str]:
        filled = sets.has_pictures(path)
        return gr.HTML(visible=not filled), gr.Column(visible=filled), _download_html(path)

    desk.follow(show, [page.dataset], [nothing, area, download])
    desk.settle()


def _download_html(path: str) -> str:
    name = Path(path).name
    link = f'<a href="/sets/{quote(name)}/pictures.zip" download>Download the set with its .txt files</a>'
    return f'<div class="hint">{link}</div>' if name else ""
