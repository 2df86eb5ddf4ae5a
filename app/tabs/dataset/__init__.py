"""Dataset: put pictures in, see what training will see of them, write their captions."""

import gradio as gr

from app.tabs.dataset import bulk, crops, doctor, editor, importing, trigger
from app.tabs.dataset.desk import Desk, hidden
from app.views import sets
from app.views.page import Page, empty

ID = "dataset"
EMPTY = empty(
    "No pictures here yet", "Drop ten to thirty pictures, a folder or a zip above; or begin with sample pictures."
)


def build(page: Page) -> None:
    """Lay out the tab."""
    desk = Desk(page, *(hidden(name) for name in ("picture-id", "caption-before", "chosen", "number", "changed")))
    importing.build(desk)
    nothing = gr.HTML(EMPTY)
    with gr.Column(visible=False, elem_id="dataset-editor") as area:
        trigger.build(desk)
        words, eye, wanted = editor.build(desk)
        bulk.build(desk, words)
        crops.build(desk, eye)
        doctor.build(desk, eye, wanted)

    def show(path: str) -> tuple[gr.HTML, gr.Column]:
        filled = sets.has_pictures(path)
        return gr.HTML(visible=not filled), gr.Column(visible=filled)

    desk.follow(show, page.dataset, [nothing, area])
