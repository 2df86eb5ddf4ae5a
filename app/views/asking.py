"""What can be asked of a run that goes on: pictures of a prompt, and a checkpoint now."""

import gradio as gr

from app.jobs import queue
from app.jobs.model import BUSY
from app.views.page import Page, kindly, quiet
from trainer.contract.requests import SampleRequest, ask_sample, parse_strengths


def build(page: Page) -> gr.Accordion:
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
