"""The panel that shows one run while it goes: bar, loss curve, samples, log, and what can be done with it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from app.jobs import queue
from app.jobs.model import BUSY, RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import amending, changing, curves, longer, progress, refusal, sheets
from app.views.page import Page, empty, kindly, quiet

NOTHING = empty("No training yet", "Choose pictures on the left and press Train. What happens shows here, live.")


class Plot(NamedTuple):
    """A line plot: what it shows, and what to look for in it."""

    name: str
    title: str
    axis: str
    words: str
    draw: Callable[[progress.Track, float], pd.DataFrame]


PLOTS = (
    Plot("loss", "Loss", "loss", "Lower is closer to the pictures; it should fall, then level out.", curves.loss),
    Plot("held-out", "Held-out pictures", "loss",
         "Pictures that are never trained on, beside those that are, measured alike. "
         "Where the first rises while the other falls, the run learns by heart.", curves.held_out),
    Plot("bands", "Loss by amount of noise", "loss", "Much noise: composition and colours. Little noise: fine detail.",
         curves.bands),
    Plot("rates", "Learning rate", "rate", "As the schedule has it.", lambda found, _: curves.rates(found)),
    Plot("norms", "Gradient norm", "norm",
         "Before it is clipped. Rare spikes do no harm; a steady rise does.", curves.norms),
)  # fmt: skip


def build(page: Page) -> None:
    """Lay out the panel and keep it up to date; it reads files of the run folder only."""
    seen = gr.Textbox("", visible="hidden", elem_id="run-seen")
    about = gr.Textbox("", visible="hidden")  # what the parts below that change a run go by
    bar = gr.HTML(NOTHING, elem_id="run-bar")
    refused, actions = _actions(page, about)
    asking = sheets.build_asking(page)
    changing.build(page, about)
    longer.build(page, about, refused)
    with gr.Column(visible=False, elem_id="run-details") as details:
        sheet = gr.Slider(0, 1, step=1, label="Samples of step", visible=False, elem_id="run-sheet")
        shots = gr.Gallery(show_label=False, columns=3, height="auto", object_fit="contain", elem_id="run-samples",
                           buttons=["fullscreen"], interactive=False)  # fmt: skip
        plots = _plots()
        smoothing = gr.Slider(0, 0.98, curves.SMOOTHING, step=0.01, label="Smoothing", elem_id="run-smoothing")
        with gr.Accordion("Log", open=False):
            log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="run-log", container=False)
    shown = [seen, page.run, about, bar, *actions, asking, details, *plots, sheet, shots, log]

    def look(*values: Any) -> Any:
        return refresh(page, *values)

    timer = gr.Timer(1.0)
    asked = [page.run, seen, smoothing, sheet]
    gr.on([timer.tick, page.run.change, smoothing.release], look, asked, shown, trigger_mode="once", **quiet())
    page.blocks.load(look, asked, shown, **quiet())
    sheet.release(lambda name, step: _turned(page, name, step), [page.run, sheet], [sheet, shots], **quiet())


def _actions(page: Page, about: gr.Textbox) -> tuple[refusal.Refusal, list[gr.Button]]:
    """The buttons under the bar, and the place below them where a refused resume is explained."""
    with gr.Row(elem_classes="tight"):
        stop = gr.Button("Stop and save", variant="stop", visible=False, elem_id="run-stop")
        force = gr.Button("Force stop", variant="stop", visible=False, elem_id="run-force", size="md")
        resume = gr.Button("Resume", variant="primary", visible=False, elem_id="run-resume")
        attempt = gr.Button("Try it in Preview", variant="primary", visible=False, elem_id="run-try")
        download = gr.Button("Download", visible=False, elem_id="run-download")
    refused = refusal.build(page, about)
    stop.click(kindly(lambda name: gr.Info(queue.stop(page.home, name))), page.run, None, **quiet())
    force.click(kindly(lambda name: gr.Info(queue.force_stop(page.home, name))), page.run, None, **quiet())
    resume.click(kindly(lambda name: refusal.resume(page, name)), page.run, [*refused], **quiet())
    attempt.click(
        lambda name: (str(queue.entry(page.home, name).run.adapter_file), gr.Tabs(selected="preview")),
        page.run, [page.adapter, page.tabs], **quiet(),
    )  # fmt: skip
    return refused, [stop, force, resume, attempt, download]


class Seen(NamedTuple):
    """What the panel shows; a later look sends only what differs.

    Attributes:
        run, shown, step: of the run.
        offset: of its events that were read.
        shots: sample pictures.
        newest: step of the last of them.
        log: of the end of its log.
        smoothing: of the curves.
        about: see `amending.key`.
    """

    run: str
    shown: str = ""
    step: int = 0
    offset: int = 0
    shots: int = 0
    newest: int = 0
    log: int = 0
    smoothing: float = 0.0
    about: str = ""


NONE = json.dumps(Seen(""))


def refresh(page: Page, name: str, last: str, smoothing: float = curves.SMOOTHING, sheet: float = 0) -> Any:
    """Return new values for the panel, or nothing where nothing changed since `last`.

    Args:
        page: see `Page`.
        name: run that is asked for; "" for the one that goes on, or the newest.
        last: what is shown, see `Seen`.
        smoothing: of the curves.
        sheet: step of the sample sheet that is shown: somebody who looks at an older one stays there.
    """
    item = _find(page, name)
    if item is None:
        rest = (gr.Column(visible=False), *[None] * len(PLOTS), gr.skip(), None, "")
        return gr.skip() if last == NONE else (NONE, "", "", NOTHING, *_buttons(None), *rest)
    found, log = progress.track(item.run), progress.log_tail(item.run)
    shots, about = found.samples, amending.key(item)
    newest = max((int(one["step"]) for one in shots.values()), default=0)
    state = (item.run.name, item.shown, item.status.step)
    now = Seen(*state, found.offset, len(shots), newest, hash(log), smoothing, about)
    before = Seen(*json.loads(last)) if last else Seen("")
    if now == before:
        return gr.skip()
    same_run, drawn = before.run == now.run, (before.offset, before.smoothing) == (now.offset, smoothing)
    kept = sheet if same_run and sheet < before.newest else None
    return (
        json.dumps(now),
        now.run,
        about,
        progress.bar(item, found),
        *_buttons(item),
        gr.Column(visible=bool(found.steps or shots)),
        *([gr.skip()] * len(PLOTS) if same_run and drawn else _curves(found, smoothing)),
        *([gr.skip()] * 2 if same_run and before.shots == now.shots else sheets.gallery(page, item, kept)),
        log,
    )


def _find(page: Page, name: str) -> Entry | None:
    """The run that was asked for, else the one that is running, else the newest."""
    return queue.known(page.home, name) or next(iter(queue.entries(page.home)), None)


def _buttons(item: Entry | None) -> tuple[gr.Button | gr.Accordion, ...]:
    shown = item.shown if item else None
    done = shown is Shown.DONE and item is not None and item.run.adapter_file.exists()
    return (
        gr.Button(visible=shown in (*BUSY, Shown.WAITING) and shown is not Shown.STOPPING),
        gr.Button(visible=shown is Shown.STOPPING),
        gr.Button(visible=shown in RESUMABLE),
        gr.Button(visible=done),
        gr.Button(visible=done, link=f"/adapters/runs/{item.run.name}.safetensors" if item and done else None),
        gr.Accordion(visible=shown is Shown.TRAINING),
    )


def _plots() -> list[gr.LinePlot]:
    """The curves: the loss at once, the others where somebody asks."""
    first, *more = PLOTS
    made = [_plot(first)]
    with gr.Accordion("More curves", open=False, elem_id="run-curves"):
        made += [_plot(one) for one in more]
    return made


def _plot(one: Plot) -> gr.LinePlot:
    plot = curves.plot(one.title, one.axis, 260, f"run-{one.name}")
    gr.HTML(f'<div class="hint">{one.words}</div>')
    return plot


def _curves(found: progress.Track, smoothing: float) -> list[pd.DataFrame | None]:
    tables = [one.draw(found, smoothing) for one in PLOTS]
    return [table if len(table) else None for table in tables]


def _turned(page: Page, name: str, step: float) -> Any:
    item = _find(page, name)
    return (gr.skip(), gr.skip()) if item is None else sheets.gallery(page, item, step)
