"""Runs laid over each other: one curve for each, and the settings in which they differ."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from app.jobs import queue
from app.jobs.queue import Entry
from app.views import curves, progress
from app.views.page import Page, in_turn, kindly, quiet
from trainer.contract.amendments import config_now
from trainer.contract.compose import section_fields
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError

MOST = 4
INK = ("#8b5cf6", "#f97316", "#10b981", "#0ea5e9")
SHOW = """() => setTimeout(() => {
    document.querySelector("#queue-compare").scrollIntoView({ behavior: "smooth", block: "start" });
    document.querySelector("#compare-runs input").focus({ preventScroll: true });
}, 200) && undefined"""
HINT = '<div class="hint">Choose two to four runs.</div>'
# What is drawn -> (step, value) of a run, and whether it is smoothed.
CURVES: dict[str, tuple[Callable[[progress.Track], list[tuple[int, float]]], bool]] = {
    "Training loss": (lambda found: [(step, found.steps[step][0]) for step in sorted(found.steps)], True),
    "Validation loss": (lambda found: [(step, found.rounds[step].loss) for step in sorted(found.rounds)], False),
    "Learning rate": (
        lambda found: [(step, max(own.values())) for step, own in sorted(found.rates.items()) if own], False),
    "Gradient norm": (lambda found: sorted(found.norms.items()), True),
}  # fmt: skip


def build(page: Page, begin: gr.Button) -> None:
    """Lay out the part; it is opened by a button beside the list of runs."""
    with gr.Accordion("Compare runs", open=False, visible=False, elem_id="queue-compare") as whole:
        with gr.Row():
            chosen = gr.Dropdown([], value=[], label="Runs", multiselect=True, max_choices=MOST, scale=5,
                                 elem_id="compare-runs", min_width=260)  # fmt: skip
            what = gr.Dropdown(list(CURVES), value="Training loss", label="Curve", scale=2, min_width=150,
                               elem_id="compare-what")  # fmt: skip
            smoothing = gr.Slider(0, 0.98, curves.SMOOTHING, step=0.01, label="Smoothing", scale=2, min_width=160)
            logged = gr.Checkbox(False, label="Logarithmic scale", scale=1, min_width=150)
        plot = gr.LinePlot(x="step", y="value", color="line", x_title="step", y_title="loss", color_title=" ",
                           height=320, visible=False, show_label=False, elem_id="compare-plot")  # fmt: skip
        table = gr.HTML(HINT, elem_id="compare-table", padding=False)
    asked = [chosen, what, smoothing, logged]
    gr.on([chosen.change, what.input, smoothing.release, logged.input],
          kindly(lambda *values: _draw(page, *values)), asked, [plot, table], **in_turn("compare"))  # fmt: skip
    begin.click(lambda *now: _begun(page, *now), [page.run, chosen], [whole, chosen], **quiet()).then(
        None, None, None, js=SHOW)  # fmt: skip


def _begun(page: Page, run: str, names: list[str]) -> tuple[gr.Accordion, gr.Dropdown]:
    """The part, opened; the run that one looks at is the first to be compared."""
    known = [item.run.name for item in queue.entries(page.home)]
    chosen = [name for name in names or [run] if name in known]
    return gr.Accordion(visible=True, open=True), gr.Dropdown(known, value=chosen)


def _draw(page: Page, names: list[str], what: str, smoothing: float, logged: bool) -> tuple[Any, str]:
    items = [queue.entry(page.home, name) for name in (names or [])[:MOST]]
    if len(items) < 2:
        return gr.LinePlot(None, visible=False), HINT
    drawn = overlaid(items, what, smoothing)
    drawn = curves.logarithmic(drawn) if logged else drawn
    colours = {item.run.name: ink for item, ink in zip(items, INK, strict=False)}
    plot = gr.LinePlot(drawn if len(drawn) else None, color_map=colours, y_title=curves.axis(what.lower(), logged),
                       visible=True)  # fmt: skip
    return plot, table_html(items)


def overlaid(items: Sequence[Entry], what: str, smoothing: float) -> pd.DataFrame:
    """A curve of each run, named after it."""
    read, smooth = CURVES[what]
    lines: list[curves.Row] = []
    for item in items:
        points = curves.thinned(read(progress.track(item.run)))
        lines += curves.named(curves.smoothed(points, smoothing) if smooth else points, item.run.name)
    return curves.table(lines)


def differing(configs: Sequence[RunConfig]) -> dict[str, list[Any]]:
    """Setting -> its value in each config, for those that are not the same in all."""
    names = [f"{section}.{key}" for section in RunConfig.model_fields for key in section_fields(section)]
    values = {name: [config.value(name) for config in configs] for name in names}
    return {name: row for name, row in values.items() if any(one != row[0] for one in row)}


def table_html(items: Sequence[Entry]) -> str:
    """HTML: how each run went, and the settings that differ."""
    head = "".join(f'<th scope="col">{html.escape(item.run.name)}</th>' for item in items)
    rows = {"state": [f"{item.shown.value}, step {item.status.step} of {item.status.total}" for item in items]}
    tracks = [progress.track(item.run) for item in items]
    rows["loss, last steps"] = [_number(progress.last_loss(found)) for found in tracks]
    rows[progress.LOWEST] = [
        _number(min((one.loss for one in found.rounds.values()), default=None)) for found in tracks
    ]
    try:
        rows |= {name: [_words(value) for value in row] for name, row in differing(_configs(items)).items()}
    except UserError as error:
        rows["settings"] = [str(error)] * len(items)
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(value)}</td>" for value in row)
        + "</tr>"
        for name, row in rows.items()
    )
    return f'<div class="facts"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _configs(items: Sequence[Entry]) -> list[RunConfig]:
    return [config_now(item.run) for item in items]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _words(value: Any) -> str:
    if value is None or value == ():
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
