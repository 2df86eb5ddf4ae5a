"""The list of runs: state, progress, time left, speed, memory; and what can be done with each in its state."""

import html
from pathlib import Path

from app.jobs.model import BUSY, Act, Shown, may
from app.jobs.queue import Entry
from app.views import progress

SCRIPT = Path(__file__).with_name("rows.js").read_text("utf-8")
SIGNS = {
    Shown.DONE: "✓", Shown.FAILED: "✕", Shown.LOST: "!", Shown.STOPPED: "■", Shown.PAUSED: "❚❚", Shown.WAITING: "…",
    Shown.NEW: "○",
}  # fmt: skip
# What a button of a row does -> (what it asks for, its sign, its words).
BUTTONS = {
    "top": (Act.MOVE, "⤒", "Move {} to the top of the queue"),
    "up": (Act.MOVE, "↑", "Move {} up"),
    "down": (Act.MOVE, "↓", "Move {} down"),
    "resume": (Act.RESUME, "▶", "Start or resume {}"),
    "pause": (Act.PAUSE, "❚❚", "Pause {}: save and free the card"),
    "stop": (Act.STOP, "■", "Stop {} and save"),
}


def rows_html(items: list[Entry], opened: str) -> str:
    """HTML of the list; the run that is opened is marked."""
    rows = "".join(_row(item, item.run.name == opened) for item in items)
    return f'<ul class="jobs" aria-label="Runs">{rows}</ul>' if rows else ""


def _row(item: Entry, opened: bool) -> str:
    found, name = progress.track(item.run), html.escape(item.run.name)
    words = f"{item.shown.value}, started outside" if item.outside else item.shown.value
    figures = "".join(f"<span>{html.escape(text)}</span>" for text in _figures(item, found))
    current = ' aria-current="true"' if opened else ""
    return (
        f'<li data-run="{name}" data-state="{item.shown.value}"{current}>'
        f'<button type="button" class="open" data-act="open"><span class="head">'
        f'<i aria-hidden="true">{SIGNS.get(item.shown, "●")}</i><b>{name}</b><em>{html.escape(words)}</em></span>'
        f"{_bar(item)}"
        f'<span class="figures">{figures}</span></button><span class="acts">{_buttons(item)}</span></li>'
    )


def _bar(item: Entry) -> str:
    share = progress.share(item)
    return (
        f'<span class="track" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-label="progress of {html.escape(item.run.name)}">'
        f'<span class="fill" style="width:{share:.1f}%"></span></span>'
    )


def _figures(item: Entry, found: progress.Track) -> list[str]:
    status, going = item.status, item.shown in BUSY
    texts = [f"step {status.step} of {status.total}" if status.total else ""]
    texts += [progress.card_words(item)] if going else []
    texts += [progress.pace_words(found), progress.memory(item, found)] if going else []
    texts += [f"{left} left" if (left := progress.time_left(item, found)) else ""]
    return [text for text in texts if text]


def _buttons(item: Entry) -> str:
    name = html.escape(item.run.name)
    return "".join(
        f'<button type="button" data-act="{act}" aria-label="{words.format(name)}" title="{words.format(name)}">'
        f"{sign}</button>"
        for act, (asks, sign, words) in BUTTONS.items()
        if may(asks, item.shown)
    )
