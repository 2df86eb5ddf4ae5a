"""The numbers of a run as tables for Gradio's line plots: smoothed, and thinned to what a screen can show."""

import math
from collections.abc import Iterable, Sequence

import gradio as gr
import pandas as pd

from app.views.progress import Track
from trainer.contract.validation import BANDS

POINTS = 240  # of a line; more cannot be told apart on a screen
FEW = 0.5  # the most smoothing where there are twenty points, not thousands
SMOOTHING = 0.9  # part of the value before that a smoothed one keeps

EACH, SMOOTH = "each step", "smoothed"
HELD, TRAINED = "held out", "trained on"
NOISE = ("least noise", "less noise", "more noise", "most noise")
PAST, AHEAD = "so far", "from here on"
COLOURS = {
    EACH: "#a1a1aa", SMOOTH: "#8b5cf6", HELD: "#f97316", TRAINED: "#8b5cf6",
    NOISE[0]: "#0ea5e9", NOISE[1]: "#10b981", NOISE[2]: "#f59e0b", NOISE[3]: "#ef4444",
    PAST: "#a1a1aa", AHEAD: "#8b5cf6",
    "unet": "#8b5cf6", "text_encoder": "#0ea5e9", "text_encoder_2": "#10b981",
}  # fmt: skip
assert len(NOISE) == BANDS

Row = tuple[int, float, str]


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows of (step, value, name of the line)."""
    return pd.DataFrame(list(rows), columns=["step", "value", "line"])


def plot(title: str, axis: str, height: int, element: str) -> gr.LinePlot:
    """A line plot of such a table. Gradio writes the name of a column where a title is empty, so the legend's is a
    space."""
    return gr.LinePlot(x="step", y="value", color="line", title=title, x_title="step", y_title=axis, color_title=" ",
                       height=height, color_map=COLOURS, elem_id=element, show_label=False)  # fmt: skip


def axis(words: str, logged: bool) -> str:
    """Title of an axis whose values may be logarithms."""
    return f"log₁₀ {words}" if logged else words


def logarithmic(drawn: pd.DataFrame) -> pd.DataFrame:
    """The same on a logarithmic scale, which Gradio's plots lack: what is not above 0 has no place there."""
    above = drawn[drawn["value"] > 0]
    return above.assign(value=[math.log10(value) for value in above["value"]])


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `POINTS` of them: each the mean of its neighbours, at the step of the last."""
    width = max(1, -(-len(points) // POINTS))
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def smoothed(points: Sequence[tuple[int, float]], smoothing: float) -> list[tuple[int, float]]:
    """Exponential moving average, begun at the first point."""
    found: list[tuple[int, float]] = []
    for step, value in points:
        found.append((step, smoothing * found[-1][1] + (1 - smoothing) * value if found else value))
    return found


def named(points: Iterable[tuple[int, float]], line: str) -> list[Row]:
    """Points as rows of a line."""
    return [(step, value, line) for step, value in points]


def loss(found: Track, smoothing: float = SMOOTHING) -> pd.DataFrame:
    """The training loss, as the objective has it."""
    points = thinned([(step, found.steps[step][0]) for step in sorted(found.steps)])
    return table([*named(points, EACH), *named(smoothed(points, smoothing), SMOOTH)])


def held_out(found: Track, smoothing: float = SMOOTHING) -> pd.DataFrame:
    """The loss on held-out pictures beside that on trained ones, both as plain squared errors.

    The first is measured with the same noise each time and shown as it is; the other depends on what was drawn.
    """
    rounds = [found.rounds[step] for step in sorted(found.rounds)]
    held = [(one.step, one.loss) for one in rounds]
    trained = [(one.step, one.training) for one in rounds if one.training is not None]
    return table([*named(held, HELD), *named(smoothed(trained, min(smoothing, FEW)), TRAINED)])


def bands(found: Track, smoothing: float = SMOOTHING) -> pd.DataFrame:
    """The loss on trained pictures, for each band of timesteps."""
    rows: list[Row] = []
    for number, line in enumerate(NOISE):
        told = [(step, loss) for step in sorted(found.bands) if (loss := found.bands[step][number]) is not None]
        rows += named(smoothed(told, min(smoothing, FEW)), line)
    return table(rows)


def rates(found: Track) -> pd.DataFrame:
    """The learning rate of every part that is trained."""
    parts = dict.fromkeys(part for own in found.rates.values() for part in own)
    return table(
        row
        for part in parts
        for row in named(thinned([(step, own[part]) for step, own in sorted(found.rates.items()) if part in own]), part)
    )


def norms(found: Track, smoothing: float = SMOOTHING) -> pd.DataFrame:
    """The norm of the gradient before it was clipped."""
    points = thinned(sorted(found.norms.items()))
    return table([*named(points, EACH), *named(smoothed(points, smoothing), SMOOTH)])
