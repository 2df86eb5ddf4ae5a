"""Train: six questions, the plan, one button; all other settings. The run itself is live in the Queue tab."""

import gradio as gr

from app.settings import load_settings
from app.tabs.train import filling, questions, settings, starting, telling
from app.views.page import Page, quiet

ID = "train"


def build(page: Page) -> None:
    """Lay out the tab."""
    known = load_settings(page.home)
    preset = filling.preset_config("demo", known.preset)
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=340):
            essential, asked = questions.build(page, known.preset, preset)
        with gr.Column(scale=6, min_width=380):
            plan = gr.HTML(padding=False)
            go = gr.Button("Train", variant="primary", size="lg", elem_id="train-go")
            problem = gr.Markdown(visible=False, elem_id="train-problem")
            advanced, told = settings.build(preset)
            told |= asked | {"plan": plan}
    telling.wire(page, essential, advanced, told)
    inputs = {*essential.values(), *advanced.values()}
    go.click(starting.submit(page, essential, advanced), inputs, [page.run, problem, page.tabs], **quiet())
