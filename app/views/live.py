"""The page of one run: bar, what can be done with it, pictures as a film, curves, files, log. Live while it goes."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from app.jobs import queue
from app.jobs.model import Shown
from app.jobs.queue import Entry
from app.views import amending, asking, changing, curves, film, longer, progress, saves, toolbar
from app.views.page import Page, empty, kindly, quiet
from trainer.formats.named import choose

NOTHING = empty("No run is open", "Choose pictures in the Train tab and press Train. What happens shows here, live.")


class Plot(NamedTuple):
    """A line plot: what it shows, and what to look for in it."""

    name: str
    title: str
    axis: str
    words: str
    draw: Callable[[progress.Track, float], pd.DataFrame]


PLOTS = (
    Plot("loss", "Training loss", "loss", "Lower is closer to the pictures; it should fall, then level out.",
         curves.loss),
    Plot("held-out", "Validation loss: held-out pictures", "loss",
         "Pictures that are never trained on, beside those that are, measured alike. "
         "Where the first rises while the other falls, the run learns by heart.", curves.held_out),
    Plot("rates", "Learning rate", "rate", "As the schedule has it.", lambda found, _: curves.rates(found)),
    Plot("norms", "Gradient norm", "norm",
         "Before it is clipped. Rare spikes do no harm; a steady rise does.", curves.norms),
    Plot("bands", "Loss by amount of noise", "loss", "Much noise: composition and colours. Little noise: fine detail.",
         curves.bands),
)  # fmt: skip
Drawing = list[gr.Column | gr.LinePlot]


def build(page: Page, opened: Any, trash: toolbar.Bin) -> None:
    """Lay out the page and keep it up to date; it reads files of the run folder only.

    Args:
        page: see `Page`.
        opened: the event after which it is known which run is asked for.
        trash: where a deleted run can be brought back from.
    """
    seen = gr.Textbox("", visible="hidden", elem_id="run-seen")
    about = gr.Textbox("", visible="hidden")  # what the parts below that change a run go by
    bar = gr.HTML(NOTHING, elem_id="run-bar")
    refused, actions = toolbar.build(page, about, trash)
    requests = asking.build(page)
    changing.build(page, about)
    longer.build(page, about, refused)
    with gr.Column(visible=False, elem_id="run-details") as details:
        shots = gr.HTML("", elem_id="run-samples", js_on_load=film.SCRIPT, apply_default_css=False)
        drawn, smoothing, logged, plots = _plots()
        with gr.Accordion("Files", open=True, elem_id="run-files"):
            files = gr.HTML("", elem_id="run-saves", js_on_load=saves.SCRIPT, apply_default_css=False)
        with gr.Accordion("Log", open=False):
            log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="run-log", container=False)
    shown = [seen, page.run, about, bar, *actions, requests, details, drawn, *plots, shots, files, log]
    asked = [page.run, seen, smoothing, logged]

    def look(*values: Any) -> Any:
        return refresh(page, *values) if values[1] else gr.skip()  # nothing before it is known what is asked for

    def first(name: str, _: str, *how: Any) -> Any:
        return refresh(page, name, "", *how)

    def with_file(event: gr.EventData, name: str) -> Any:
        return _with_file(page, str(event.act), str(event.file), name)

    moved = gr.Textbox("", visible="hidden")  # a look that finds nothing new answers with one value, not with all
    page.pulse.beat(lambda *last: _moved(page, *last), [page.run, seen], moved, trigger_mode="once", **quiet())
    gr.on([moved.change, page.run.change, smoothing.release, logged.input], look, asked, shown,
          trigger_mode="once", **quiet())  # fmt: skip
    opened.then(first, asked, shown, **quiet())
    files.act(kindly(with_file), page.run, [page.adapter, page.tabs, seen], **quiet())


class Seen(NamedTuple):
    """What the page shows; a later look sends only what differs.

    Attributes:
        run, shown, step: of the run.
        offset: of its events that were read.
        shots: sample pictures.
        files: what is told of its files.
        log: of the end of its log.
        drawn: how curves are drawn.
        about: see `amending.key`.
    """

    run: str
    shown: str = ""
    step: int = 0
    offset: int = 0
    shots: int = 0
    files: int = 0
    log: int = 0
    drawn: str = ""
    about: str = ""


NONE = json.dumps(Seen(""))


def refresh(page: Page, name: str, last: str, smoothing: float = curves.SMOOTHING, logged: bool = False) -> Any:
    """Return new values for the page, or nothing where nothing changed since `last`.

    Args:
        page: see `Page`.
        name: run that is asked for; "" for the one that goes on, or the newest.
        last: what is shown, see `Seen`; "" for nothing yet.
        smoothing: of the curves.
        logged: whether they are drawn on a logarithmic scale.
    """
    item = _find(page, name)
    if item is None:
        rest = (gr.Accordion(visible=False), gr.Column(visible=False), gr.skip(), *_curves(None, 0, False), "", "", "")
        return gr.skip() if last == NONE else (NONE, "", "", NOTHING, *toolbar.shown(None), *rest)
    found, log = progress.track(item.run), progress.log_tail(item.run)
    files = saves.saves_html(item, found)
    now = _now(item, found, files, log, f"{smoothing}/{logged}")
    before = Seen(*json.loads(last)) if last else Seen("")
    if now == before:
        return gr.skip()
    same_run, drawn = before.run == now.run, (before.offset, before.drawn) == (now.offset, now.drawn)
    return (
        json.dumps(now),
        gr.skip() if name == now.run else now.run,  # somebody may have opened another meanwhile
        now.about,
        progress.bar(item, found),
        *toolbar.shown(item),
        gr.Accordion(visible=item.shown is Shown.TRAINING),
        gr.Column(visible=True),
        gr.Accordion(visible=bool(found.steps)),
        *([gr.skip()] * 2 * len(PLOTS) if same_run and drawn else _curves(found, smoothing, logged)),
        gr.skip() if same_run and before.shots == now.shots else film.film_html(item, found),
        gr.skip() if same_run and before.files == now.files else files,
        log,
    )


def _now(item: Entry, found: progress.Track, files: str, log: str, drawn: str) -> Seen:
    state = (item.run.name, item.shown, item.status.step, found.offset, len(found.samples))
    return Seen(*state, hash(files), hash(log), drawn, amending.key(item))


def _moved(page: Page, name: str, last: str) -> Any:
    """A text that is new where there is something new to show."""
    item = _find(page, name)
    if not last or (item is None and last == NONE):
        return gr.skip()
    before = Seen(*json.loads(last))
    if item is not None:
        found = progress.track(item.run)
        files, log = saves.saves_html(item, found), progress.log_tail(item.run)
        if _now(item, found, files, log, before.drawn) == before:
            return gr.skip()
    return str(time.monotonic())


def _find(page: Page, name: str) -> Entry | None:
    """The run that was asked for, else the one that is running, else the newest."""
    return queue.known(page.home, name) or next(iter(queue.entries(page.home)), None)


def _with_file(page: Page, act: str, file_name: str, name: str) -> Any:
    """Open a file of the run in Preview, or make it the chosen one."""
    run = queue.entry(page.home, name).run
    file = saves.file_named(run, file_name)
    if act == "preview":
        return str(file), gr.Tabs(selected="preview"), gr.skip()
    gr.Info(f"{choose(run, file).name} is {file.stem} now. It is in the Library.")
    return gr.skip(), gr.skip(), json.dumps(Seen(name))


def _plots() -> tuple[gr.Accordion, gr.Slider, gr.Checkbox, Drawing]:
    """The curves, each with what to look for in it; one of which nothing is known is not there."""
    made: Drawing = []
    with gr.Accordion("Curves", open=True, visible=False, elem_id="run-curves") as whole:
        with gr.Row():
            smoothing = gr.Slider(0, 0.98, curves.SMOOTHING, step=0.01, label="Smoothing", elem_id="run-smoothing",
                                  scale=3, min_width=200)  # fmt: skip
            logged = gr.Checkbox(False, label="Logarithmic scale", elem_id="run-logged", scale=1, min_width=160)
        with gr.Row(elem_classes="wrap"):
            for one in PLOTS:
                with gr.Column(min_width=340, visible=False) as column:
                    plot = curves.plot(one.title, one.axis, 240, f"run-{one.name}")
                    gr.HTML(f'<div class="hint">{one.words}</div>')
                made += [column, plot]
    return whole, smoothing, logged, made


def _curves(found: progress.Track | None, smoothing: float, logged: bool) -> Sequence[gr.Column | gr.LinePlot]:
    shown: Drawing = []
    for one in PLOTS:
        table = one.draw(found, smoothing) if found else None
        axis = curves.axis(one.axis, logged)
        full = table is not None and len(table) > 0
        drawn = curves.logarithmic(table) if full and logged else table
        shown += [gr.Column(visible=full), gr.LinePlot(drawn if full else None, y_title=axis)]
    return shown
