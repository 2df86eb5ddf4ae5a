"""What a picture depends on: prompt, base, adapters, seed and the rest; from the page and back into it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.settings import load_settings
from app.tabs.preview import rows
from app.tabs.preview.form import Form
from app.views.bases import choices, note_html
from app.views.page import Page, quiet
from trainer.contract.catalog import SAMPLERS


@dataclass(frozen=True)
class Controls:
    """The components, named as the fields of `Form`; of the size both sides."""

    prompt: gr.Textbox
    base: gr.Dropdown
    rows: gr.HTML
    negative: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.Dropdown
    width: gr.Number
    height: gr.Number
    clip_skip: gr.Number

    @property
    def all(self) -> list[gr.components.Component]:
        """In the order of `filled`."""
        return list(vars(self).values())

    def read(self, values: Mapping[Any, Any]) -> Form:
        """The form as it stands in the page. Raises UserError where something in it cannot be."""
        given = {name: values[component] for name, component in vars(self).items()}
        size = [int(given.pop(side) or 0) for side in ("width", "height")]
        texts = {name: str(given.pop(name) or "") for name in ("prompt", "negative", "base")}
        adapters = rows.read(given.pop("rows"))
        whole = {name: int(given.pop(name) or 0) for name in ("seed", "clip_skip")}
        return Form.read({**given, **texts, **whole, "size": size, "rows": adapters})


def filled(form: Form) -> list[Any]:
    """Values for `Controls.all`."""
    return [form.prompt, form.base, rows.dumped(form.rows), form.negative, form.seed, form.steps, form.guidance,
            form.sampler, *form.size, form.clip_skip]  # fmt: skip


@dataclass(frozen=True)
class Buttons:
    """What begins something: a picture, a sheet of strengths, another seed."""

    draw: gr.Button
    sheet: gr.Button
    dice: gr.Button


def build(page: Page) -> tuple[Controls, Buttons]:
    """Lay them out."""
    with gr.Group():
        prompt = gr.Textbox(label="Prompt", lines=2, placeholder="what to draw", elem_id="preview-prompt")
        base = gr.Dropdown(choices(page.home), value=load_settings(page.home).base, label="Base model",
                           allow_custom_value=True, elem_id="preview-base")  # fmt: skip
        note = gr.HTML(note_html(load_settings(page.home).base), padding=False)
    base.change(note_html, base, note, **quiet())
    page.tab.select(lambda: gr.Dropdown(choices(page.home)), None, base, **quiet())
    adapters = rows.build()
    with gr.Row(elem_classes="tight"):
        draw = gr.Button("Draw", variant="primary", size="lg", elem_id="preview-draw", scale=3, min_width=120)
        sheet = gr.Button("Strength sheet", size="lg", elem_id="preview-sheet", scale=2, min_width=150)
    with gr.Accordion("More", open=False, elem_id="preview-more"):
        negative = gr.Textbox(label="Negative prompt", placeholder="what to keep out", elem_id="preview-negative")
        with gr.Row(elem_classes="ends"):
            seed = gr.Number(42, label="Seed", precision=0, minimum=0, min_width=160, info="Same seed, same picture.",
                             elem_id="preview-seed")  # fmt: skip
            dice = gr.Button("Another seed", elem_id="preview-dice", min_width=130, scale=0, size="md")
        steps = gr.Slider(1, 60, 20, step=1, label="Steps", info="More take longer and change little after 20 to 30.",
                          elem_id="preview-steps")  # fmt: skip
        guidance = gr.Slider(1, 15, 5, step=0.5, label="Guidance", info="How strictly the prompt is followed.")
        sampler = gr.Dropdown(list(SAMPLERS), value="DPM++ 2M", label="Sampler", elem_id="preview-sampler")
        with gr.Row():
            width, height = (
                gr.Number(
                    0, label=f"{side}, px", precision=0, minimum=0, min_width=90, elem_id=f"preview-{side.lower()}"
                )
                for side in ("Width", "Height")
            )
            clip_skip = gr.Number(0, label="Clip skip", precision=0, minimum=0, min_width=90)
        gr.HTML(
            '<div class="hint">0 is the base\'s own size, and the clip skip that the adapter was trained with.</div>'
        )
    made = Controls(prompt, base, adapters, negative, seed, steps, guidance, sampler, width, height, clip_skip)
    return made, Buttons(draw, sheet, dice)
