"""The panel that shows one run while it goes: bar, loss curve, samples, log, and what can be done with it."""

from typing import Any

import gradio as gr
import pandas as pd

from app.jobs import queue
from app.jobs.model import BUSY, RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import pictures, progress
from app.views.page import Page, empty, kindly, quiet
from trainer.contract.errors import UserError

NOTHING = empty("No training yet", "Choose pictures on the left and press Train. What happens shows here, live.")
LOSS_INFO = "Grey: each step. Violet: smoothed. Lower is closer to the pictures; it should fall, then level out."


def build(page: Page) -> None:
    """Lay out the panel and keep it up to date; it reads files of the run folder only."""
    seen = gr.Textbox("", visible="hidden", elem_id="run-seen")
    bar = gr.HTML(NOTHING, elem_id="run-bar")
    with gr.Row(elem_classes="tight"):
        stop = gr.Button("Stop and save", variant="stop", visible=False, elem_id="run-stop")
        force = gr.Button("Force stop", variant="stop", visible=False, elem_id="run-force", size="md")
        resume = gr.Button("Resume", variant="primary", visible=False, elem_id="run-resume")
        attempt = gr.Button("Try it in Preview", variant="primary", visible=False, elem_id="run-try")
        download = gr.Button("Download", visible=False, elem_id="run-download")
    with gr.Column(visible=False, elem_id="run-details") as details:
        gr.HTML('<div class="hint">Sample pictures, newest first</div>')
        shots = gr.Gallery(show_label=False, columns=4, height="auto", object_fit="contain", elem_id="run-samples",
                           buttons=["fullscreen"], interactive=False)  # fmt: skip
        plot = gr.LinePlot(x="step", y="loss", color="line", title="Loss", x_title="step", y_title="", height=260,
                           color_map={"each step": "#a1a1aa", "smoothed": "#8b5cf6"}, colors_in_legend=[],
                           elem_id="run-loss", show_label=False)  # fmt: skip
        gr.HTML(f'<div class="hint">{LOSS_INFO}</div>')
        with gr.Accordion("Log", open=False):
            log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="run-log", container=False)
    shown = [seen, page.run, bar, stop, force, resume, attempt, download, details, plot, shots, log]

    def look(name: str, last: str) -> Any:
        return refresh(page, name, last)

    timer = gr.Timer(1.0)
    gr.on([timer.tick, page.run.change], look, [page.run, seen], shown, trigger_mode="once", **quiet())
    page.blocks.load(look, [page.run, seen], shown, **quiet())
    stop.click(kindly(lambda name: gr.Info(queue.stop(page.home, name))), page.run, None, **quiet())
    force.click(kindly(lambda name: gr.Info(queue.force_stop(page.home, name))), page.run, None, **quiet())
    resume.click(kindly(lambda name: queue.resume(page.home, name)), page.run, None, **quiet())
    attempt.click(
        lambda name: (str(queue.entry(page.home, name).run.adapter_file), gr.Tabs(selected="preview")),
        page.run, [page.adapter, page.tabs], **quiet(),
    )  # fmt: skip


def refresh(page: Page, name: str, last: str) -> Any:
    """Return new values for the panel, or nothing where nothing changed since `last`."""
    item = _find(page, name)
    if item is None:
        return (
            gr.skip()
            if last == "none"
            else ("none", "", NOTHING, *_buttons(None), gr.Column(visible=False), None, None, "")
        )
    found = progress.track(item.run)
    shots = progress.samples(item.run)
    log = progress.log_tail(item.run)
    now = f"{item.run.name}|{item.shown}|{item.status.step}|{found.offset}|{len(shots)}|{hash(log)}"
    if now == last:
        return gr.skip()
    before = last.split("|") if last.count("|") == 5 else [""] * 6
    same_run = before[0] == item.run.name
    return (
        now,
        item.run.name,
        progress.bar(item, found),
        *_buttons(item),
        gr.Column(visible=bool(found.steps or shots)),
        gr.skip() if same_run and before[3] == str(found.offset) else _curve(found),
        gr.skip() if same_run and before[4] == str(len(shots)) else _gallery(page, shots),
        log,
    )


def _find(page: Page, name: str) -> Entry | None:
    """The run that was asked for, else the one that is running, else the newest."""
    try:
        if name:
            return queue.entry(page.home, name)
    except UserError:
        pass  # it was removed meanwhile: show another
    return next(iter(queue.entries(page.home)), None)


def _buttons(item: Entry | None) -> tuple[gr.Button, ...]:
    shown = item.shown if item else None
    done = shown is Shown.DONE and item is not None and item.run.adapter_file.exists()
    return (
        gr.Button(visible=shown in (*BUSY, Shown.WAITING) and shown is not Shown.STOPPING),
        gr.Button(visible=shown is Shown.STOPPING),
        gr.Button(visible=shown in RESUMABLE),
        gr.Button(visible=done),
        gr.Button(visible=done, link=f"/adapters/runs/{item.run.name}.safetensors" if item and done else None),
    )


def _curve(found: progress.Track) -> pd.DataFrame | None:
    return progress.curve(found) if found.steps else None


def _gallery(page: Page, shots: list[tuple[Any, str]]) -> list[tuple[str, str]]:
    copies = [(pictures.copy(page.home, path), caption) for path, caption in shots[:40]]
    return [(path, caption) for path, caption in copies if path]
