"""The sample sheets of a run, a step at a time: prompts down, strengths across; and what can be asked of a run."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.jobs import queue
from app.jobs.model import BUSY
from app.jobs.queue import Entry
from app.views import pictures, progress
from app.views.page import Page, kindly, quiet
from trainer.contract.requests import SampleRequest, ask_sample, parse_strengths


class Sheet(NamedTuple):
    """The pictures of one step.

    Attributes:
        step: that they were drawn at.
        columns: strengths.
        pictures: (file, caption), row by row.
    """

    step: int
    columns: int
    pictures: list[tuple[Path, str]]


def sheets(item: Entry) -> list[Sheet]:
    """The sheets of a run, in order of their steps; what was asked for stands behind what was planned."""
    found = progress.track(item.run)
    mark, steps = progress.lowest_step(found), dict[int, list[dict[str, Any]]]()
    for event in found.samples.values():
        steps.setdefault(int(event["step"]), []).append(event)
    made = []
    for step, events in sorted(steps.items()):
        events.sort(key=lambda event: ("id" in event, event.get("id", ""), int(event["seed"])))
        note = f" · {progress.LOWEST}" if step == mark else ""
        told = [(item.run.samples / Path(str(event["file"])).name, _caption(event) + note) for event in events]
        planned = [event for event in events if "id" not in event] or events
        strengths = {event.get("strength", 1.0) for event in planned}
        made.append(Sheet(step, len(strengths) if len(strengths) > 1 else 4, told))
    return made


def _caption(event: dict[str, Any]) -> str:
    prompt = str(event.get("prompt", ""))
    short = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return f"strength {event.get('strength', 1.0):g} · {short} · step {event['step']}"


def gallery(page: Page, item: Entry, step: float | None) -> tuple[gr.Slider, gr.Gallery]:
    """The sheet nearest to a step, the newest for None; and the slider over all of them."""
    made = sheets(item)
    if not made:
        return gr.Slider(visible=False), gr.Gallery(None)
    shown = made[-1] if step is None else min(made, key=lambda sheet: abs(sheet.step - step))
    copies = [(pictures.copy(page.home, path), caption) for path, caption in shown.pictures]
    value = [(path, caption) for path, caption in copies if path]
    first, last = made[0].step, made[-1].step
    slider = gr.Slider(first, max(last, first + 1), value=shown.step, visible=len(made) > 1)
    return slider, gr.Gallery(value, columns=shown.columns)


def build_asking(page: Page) -> gr.Accordion:
    """A prompt that the run draws between two steps, and a checkpoint now."""
    with gr.Accordion("Ask the running training", open=False, visible=False, elem_id="run-asking") as asking:
        with gr.Row():
            prompt = gr.Textbox(label="Prompt", placeholder="what to draw", elem_id="run-prompt", scale=4)
            strengths = gr.Textbox("0, 0.5, 1", label="Strengths", elem_id="run-strengths", scale=1, min_width=110)
        with gr.Row(elem_classes="tight"):
            draw = gr.Button("Sample now", elem_id="run-sample")
            save = gr.Button("Save now", elem_id="run-save")
    draw.click(kindly(lambda name, *asked: gr.Info(sample_now(page, name, *asked))), [page.run, prompt, strengths],
               None, **quiet())  # fmt: skip
    save.click(kindly(lambda name: gr.Info(save_now(page, name))), page.run, None, **quiet())
    shown: gr.Accordion = asking
    return shown


def sample_now(page: Page, name: str, prompt: str, strengths: str) -> str:
    """Ask a run for pictures. Raises UserError where the strengths are none."""
    wanted = parse_strengths(strengths)
    item = queue.entry(page.home, name)
    if item.shown not in BUSY:
        return f"{name} is not running. Preview draws with its finished file."
    if not prompt.strip():
        return "Write a prompt first."
    ask_sample(item.run, SampleRequest(prompt=prompt.strip(), strengths=wanted))
    return "It is drawn after the step that is under way, and shows below."


def save_now(page: Page, name: str) -> str:
    """Ask a run for a checkpoint."""
    item = queue.entry(page.home, name)
    if item.shown not in BUSY:
        return f"{name} is not running; it is saved."
    item.run.request("save")
    return "A checkpoint is written after the step that is under way."
