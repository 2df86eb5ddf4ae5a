"""All settings: made from the schema, in groups, with a box that finds them; what differs from the preset is marked."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app import form
from app.tabs.train.filling import Components
from trainer.contract.config import RunConfig

SEARCH = Path(__file__).with_name("search.js").read_text("utf-8")
# The word that a click on "put back" sends is that of the group: only its fields are outputs of what follows.
PUT_BACK = """
element.addEventListener("click", event => {
    const setting = event.target.closest("button[data-setting]")?.dataset.setting;
    if (setting) ({EVENTS})[setting.split(".")[0]]({ setting });
});
"""
QUESTIONS = {
    "adapter": ("What is rank?", "How much an adapter can hold: the inner size of the two small matrices beside each "
                "layer. 4 to 16 are enough for one subject, 16 to 64 for a style; twice the rank is twice the file, "
                "takes more memory, and learns small sets by heart sooner. Alpha scales what is learned: left alone, "
                "rank can be changed without another learning rate."),
    "optimizer": ("What is the learning rate?", "How far each step goes. Too low, and nothing is learned; too high, "
                  "and colours burn and everything looks like the set. Change it by factors of two or three, and "
                  "look at the samples rather than at the loss."),
    "schedule": ("What does a schedule do?", "It lowers the learning rate over the run, so that the last steps are "
                 "fine. Cosine is right for nearly everything; a warm-up keeps the first steps small."),
    "objective": ("What is the objective?", "What counts as close to the pictures. min-SNR makes every amount of "
                  "noise count about as much, so that learning is steadier; the others are for special bases."),
    "validation": ("Why hold pictures out?", "A run measures itself on pictures it never learns from. Where the loss "
                   "on them rises while the other falls, it learns by heart: an earlier step is better."),
    "dataset": ("What are buckets?", "Pictures are not all square: each is brought to the nearest of some shapes of "
                "the same area, and a batch holds one shape. Nothing is stretched."),
    "training": ("What is batch size?", "Pictures that a step learns from together. More of them make a step steadier "
                 "and slower and take memory; a run of the same views then has fewer steps."),
    "sampling": ("What are samples for?", "The same prompts and seeds, drawn as the run goes on: the best way to see "
                 "when it is enough."),
    "engine": ("Should I change this?", "Hardly ever: all of it is chosen for this machine."),
}  # fmt: skip


def build(preset: RunConfig) -> tuple[Components, Components]:
    """Every setting that is no question; and what is told of all of them."""
    components: Components = {}
    groups = form.advanced()
    with gr.Accordion("All settings", open=False, elem_id="all-settings"):
        load = gr.UploadButton("Load settings from a file", file_types=[".toml", ".json", ".safetensors"], size="sm",
                               elem_id="train-like")  # fmt: skip
        like = gr.HTML(padding=False, elem_id="train-like-told")
        marks = gr.HTML(marks_html({}), elem_id="changed", js_on_load=_put_back(list(groups)))
        gr.HTML(_search_box(groups), js_on_load=SEARCH, padding=False, elem_id="train-search", apply_default_css=False)
        for section, fields in groups.items():
            title = form.TITLES.get(section, section)
            with gr.Accordion(title, open=False, elem_id=f"group-{section}"):
                if section in QUESTIONS:
                    gr.HTML(_question(*QUESTIONS[section]), padding=False)
                with gr.Row(equal_height=True):
                    for item in fields:
                        components[item.name] = form.component(item, form.value_of(preset, item.name))
        with gr.Accordion("As a file (config.toml)", open=False):
            toml = gr.Code(show_label=False, interactive=False, elem_id="train-toml", buttons=["copy", "download"])
    return components, {"toml": toml, "marks": marks, "load": load, "like": like}


def event_of(section: str) -> str:
    """Name of the event that puts a setting of a group back."""
    return f"back_{section}"


def _put_back(sections: list[str]) -> str:
    events = ",".join(f'{json.dumps(name)}: data => trigger("{event_of(name)}", data)' for name in sections)
    return PUT_BACK.replace("{EVENTS}", f"{{{events}}}")


def _question(title: str, answer: str) -> str:
    return f"<details class='why'><summary>{html.escape(title)}</summary>{html.escape(answer)}</details>"


def _search_box(groups: Mapping[str, list[form.Field]]) -> str:
    """HTML: the box, and what can be found: groups that were never opened are not in the page yet."""
    index = [
        {"id": item.element, "group": section, "text": f"{item.label} {item.name} {item.about}".lower()}
        for section, fields in groups.items()
        for item in fields
    ]
    return (
        f'<div class="search" data-index="{html.escape(json.dumps(index))}">'
        '<input type="search" placeholder="Find a setting" aria-label="Find a setting" autocomplete="off">'
        '<span role="status"></span><style></style></div>'
    )


def marks_html(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """HTML: what differs from the preset, each with a way back, and a rule that marks those components."""
    if not changes:
        return '<div class="changed">All as the preset has it.</div>'
    rows = "".join(
        f"<li><code>{name}</code> {_words(old)} → <b>{_words(new)}</b>{_back(name)}</li>"
        for name, (old, new) in changes.items()
    )
    rule = ",".join(f"#{form.field(name).element}" for name in changes)
    mark = f"<style>{rule}{{box-shadow:inset 3px 0 0 var(--primary-500)}}</style>"
    return f'{mark}<div class="changed">Differs from the preset:<ul>{rows}</ul></div>'


def _back(name: str) -> str:
    if name in form.ESSENTIAL:
        return ""
    said = f"Put {name} back to the preset"
    return f' <button type="button" data-setting="{name}" title="{said}" aria-label="{said}">put back</button>'


def _words(value: Any) -> str:
    return "–" if value is None or value == () else html.escape(str(value))
