"""The six questions: which pictures, what to teach, on which base, the trigger word, how long, under which name."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.settings import load_settings
from app.tabs.train import fetching
from app.tabs.train.filling import Components, found, length_of
from app.views import sets
from app.views.bases import choices, note_html, shelf
from app.views.lengths import UNITS
from app.views.page import Page, in_turn, one_by_one, quiet
from app.views.presets import PACES, about_html
from trainer.contract.config import RunConfig
from trainer.contract.presets import DEFAULT_LENGTH, presets

PRESETS = {"style": "A style", "subject": "A subject: one person, animal or thing"}
TRIGGER_HELP = (
    "<details class='why'><summary>What is a trigger word?</summary>A word that stands for what is taught. It is put "
    "before every caption, and in a prompt it calls the subject; without it the base draws as before. Take one that "
    "means nothing yet, such as <code>ohwx</code>: a common word brings its own meaning along. A style applies itself "
    "whenever the adapter is on, so it can do without.</details>"
)
LENGTH_HELP = (
    "<details class='why'><summary>How long is long enough?</summary>Until the sample pictures show what was taught, "
    "and before they all look like the training pictures. Start with Good: samples and files of every save are kept, "
    "so that an earlier step can be used, and a run can be continued. A view is one picture seen once; a step learns "
    "from one batch of pictures; an epoch is one pass over the set.</details>"
)


def build(page: Page, preset_name: str, preset: RunConfig) -> tuple[Components, Components]:
    """The questions; and what is told of the set, of the preset and of the base."""
    with gr.Group():
        dataset = gr.Dropdown(sets.choices(page.home), label="Pictures", info="A set from the Dataset tab.",
                              allow_custom_value=True, elem_id="train-dataset")  # fmt: skip
        summary = gr.HTML(elem_id="train-summary", padding=False)
        teach = gr.Radio([(PRESETS.get(name, name), name) for name in presets("demo")], value=preset_name,
                         label="What to teach", elem_id="train-preset")  # fmt: skip
        about = gr.HTML(about_html(found("demo", preset_name)), padding=False, elem_id="train-about")
        model = gr.Dropdown(choices(page.home), value="demo", label="Base model", allow_custom_value=True,
                            elem_id="train-base", info="The model that learns: one of your own, or one from the Hub. "
                            "Choose, or type a .safetensors file, a diffusers folder or a Hub id.")  # fmt: skip
        note = gr.HTML(note_html("demo"), padding=False, elem_id="train-base-note")
        fetching.build(page, model)
        trigger = gr.Textbox(label="Trigger word", placeholder="none", elem_id="train-trigger",
                             info="A rare word that calls the subject in prompts. A style can do without.")  # fmt: skip
        warning = gr.HTML("", elem_id="train-trigger-note", padding=False)
        gr.HTML(TRIGGER_HELP, padding=False)
        trigger.change(sets.trigger_note_html, trigger, warning, **in_turn("train-trigger-note"))
        taught = _how_long(preset)
        gr.HTML(LENGTH_HELP, padding=False)
        name = gr.Textbox(label="Name", placeholder="made from the set and what is taught", elem_id="train-name",
                          info="Of the run and of the finished file.")  # fmt: skip
    _follow_set(page, dataset, trigger, summary)
    model.change(note_html, model, note, **quiet())
    page.on_open(lambda: gr.Dropdown(choices(page.home)), model)
    given = gr.Textbox("demo", visible="hidden")  # the base that was put there for the set, not by hand
    asked = {"dataset": dataset, "preset": teach, "base": model, "trigger": trigger, **taught, "name": name}
    return asked, {"summary": summary, "about": about, "given": given}


def _how_long(preset: RunConfig) -> Components:
    """The length: as the preset has it, or a number; and whether the rate is to be found."""
    unit, length = length_of(preset)
    pace = gr.Radio(PACES, value=DEFAULT_LENGTH, label="How long", elem_id="train-pace")
    with gr.Row():
        number = gr.Number(length, label="Length", minimum=0, elem_id="train-length", min_width=90, scale=2)
        kind = gr.Dropdown(UNITS, value=unit, label="counted in", elem_id="train-unit", min_width=150, scale=3)
    auto = gr.Checkbox(False, label="Choose the learning rate for me", elem_id="train-auto-rate",
                       info="Prodigy finds it while it trains, and needs more steps for that.")  # fmt: skip
    return {"pace": pace, "length": number, "unit": kind, "auto_rate": auto}


def _follow_set(page: Page, dataset: gr.Dropdown, trigger: gr.Textbox, summary: gr.HTML) -> None:
    """The summary and the trigger word of the set that is chosen; a trigger that somebody typed here stays."""
    filled = gr.Textbox("", visible="hidden")  # what was taken from a set last

    def follow(path: str | None, typed: str, before: str) -> Any:
        own = sets.trigger(Path(path)) if path else ""
        kept = bool(typed) and typed != before
        return sets.summary_html(page.home, path), gr.skip() if kept else own, before if kept else own

    gr.on([dataset.change, page.tab.select], follow, [dataset, trigger, filled], [summary, trigger, filled],
          **one_by_one(sets.WORDS))  # fmt: skip


def base_for(home: Path, path: str | None, chosen: str, given: str) -> str:
    """The base for a set: the practice base for samples; for one's own pictures the last real base, else none.

    Args:
        home: data folder.
        path: of the set.
        chosen: what stands there.
        given: what was put there for a set last; anything else was chosen by hand, and stays.
    """
    if chosen and chosen != given:
        return chosen
    return "demo" if not path or sets.teaches(path) else load_settings(home).own_base


def teachable(base: str, name: str) -> tuple[gr.Radio, str]:
    """The presets of a base as a question, and the one that is chosen there."""
    known = presets(shelf(base))
    chosen = name if name in known else next(iter(known))
    return gr.Radio([(PRESETS.get(key, key), key) for key in known], value=chosen), chosen
