"""The sample pictures of a run as a film of its learning: prompts down, strengths across, a slider over the steps."""

import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from app.jobs.queue import Entry
from app.views import pictures, progress
from app.views.progress import Track

SCRIPT = Path(__file__).with_name("film.js").read_text("utf-8")
SIDE = 384  # pixels of a picture of the film; a click shows it as it is drawn
MOST_ACROSS = 4  # pictures of one strength beside each other
MOST_ASKED = 12  # pictures that somebody asked for: the last ones

Shot = dict[str, Any]  # an event `sample`


class Cell(NamedTuple):
    """A place of the film: what is drawn there at every step.

    Attributes:
        prompt, seed, strength: that its pictures are drawn with.
        frames: an event for each step of the film, None where nothing was drawn.
    """

    prompt: str
    seed: int
    strength: float
    frames: tuple[Shot | None, ...]


class Film(NamedTuple):
    """All planned sample pictures of a run.

    Attributes:
        steps: at which pictures were drawn, in order.
        cells: row by row.
        columns: strengths.
        asked: what somebody asked for meanwhile, the last first.
    """

    steps: tuple[int, ...]
    cells: tuple[Cell, ...]
    columns: int
    asked: tuple[Shot, ...]


def film_of(found: Track) -> Film:
    """The film of what a run has told."""
    planned = [shot for shot in found.samples.values() if "id" not in shot]
    asked = [shot for shot in reversed(found.samples.values()) if "id" in shot]
    steps = tuple(sorted({int(shot["step"]) for shot in planned}))
    cells: dict[tuple[int, str, float], dict[int, Shot]] = {}
    for shot in planned:
        key = int(shot["seed"]), str(shot.get("prompt", "")), float(shot.get("strength", 1.0))
        cells.setdefault(key, {})[int(shot["step"])] = shot
    made = [
        Cell(prompt, seed, strength, tuple(drawn.get(step) for step in steps))
        for (seed, prompt, strength), drawn in sorted(cells.items())
    ]
    return Film(steps, tuple(made), len({cell.strength for cell in made}), tuple(asked[:MOST_ASKED]))


def film_html(item: Entry, found: Track) -> str:
    """HTML of the film; the script moves it. Nothing where no picture was drawn."""
    film = film_of(found)
    if not film.steps and not film.asked:
        return ""
    size = _size(item, found)
    cells = "".join(_cell(item, cell, size) for cell in film.cells)
    across = film.columns if film.columns > 1 else min(MOST_ACROSS, len(film.cells))  # else prompts stand side by side
    mark = progress.lowest_step(found)
    marked = f' data-marked="{mark}" data-mark="{progress.LOWEST}"' if mark is not None else ""
    return (
        f'<div class="film" data-run="{html.escape(item.run.name)}" data-steps="{json.dumps(film.steps)}"{marked}>'
        f"{_reel(film.steps)}"
        f'<div class="cells" style="--columns:{max(1, across)}">{cells}</div>'
        f"{_asked(item, film.asked, size)}</div>"
    )


def _reel(steps: tuple[int, ...]) -> str:
    last = len(steps) - 1
    if last < 1:
        return f'<div class="reel"><output>{f"step {steps[0]}" if steps else ""}</output></div>'
    return (
        '<div class="reel"><button type="button" class="play" aria-label="Play: watch it learn">▶</button>'
        f'<input type="range" min="0" max="{last}" step="1" value="{last}" aria-label="Samples of step"'
        f' aria-valuetext="step {steps[-1]}"><output>step {steps[-1]}</output></div>'
    )


def _cell(item: Entry, cell: Cell, size: tuple[int, int]) -> str:
    frames = [address(item, shot) if shot else "" for shot in cell.frames]
    last = next(filter(None, reversed(frames)), "")
    listed = html.escape(json.dumps(frames))
    return f'<figure data-frames="{listed}">{_picture(last, cell.prompt, cell.strength, size)}</figure>'


def _picture(source: str, prompt: str, strength: float, size: tuple[int, int]) -> str:
    words = html.escape(f"{prompt} (strength {strength:g})")
    return (
        f'<button type="button" title="{words}"><img src="{source}" alt="{words}" loading="lazy" decoding="async" '
        f'width="{size[0]}" height="{size[1]}"></button>'
        f"<figcaption><b>{strength:g}</b> {html.escape(prompt)}</figcaption>"
    )


def _asked(item: Entry, asked: Iterable[Shot], size: tuple[int, int]) -> str:
    figures = "".join(
        f"<figure>{_picture(address(item, shot), str(shot['prompt']), float(shot.get('strength', 1.0)), size)}</figure>"
        for shot in asked
    )
    return f'<h4>Asked for meanwhile</h4><div class="asked">{figures}</div>' if figures else ""


def address(item: Entry, shot: Shot) -> str:
    """Where the page gets a picture from; a picture that was drawn again has another address."""
    name, file = quote(item.run.name, safe=""), quote(Path(str(shot["file"])).name, safe="")
    return html.escape(f"/runs/{name}/samples/{file}/film?{round(1000 * float(shot.get('time', 0)))}")


def _size(item: Entry, found: Track) -> tuple[int, int]:
    """Width and height of the pictures, so that nothing jumps when they come."""
    first = next(iter(found.samples.values()))
    return pictures.size(item.run.samples / Path(str(first["file"])).name) or (SIDE, SIDE)
