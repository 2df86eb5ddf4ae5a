"""One line above the tabs: what is being trained now, whichever tab is open."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs import queue
from app.jobs.model import BUSY, Shown
from app.views import progress
from app.views.page import quiet

IDLE = '<div class="brand"><b>LoRA Atelier</b><span>pictures in, adapter out</span></div>'


def build(home: Path, blocks: gr.Blocks, pulse: gr.HTML) -> gr.HTML:
    """Lay out the line and keep it up to date; a click on it is for the page to answer."""
    line = gr.HTML(IDLE, elem_id="status")
    last = gr.Textbox("", visible="hidden")

    def look(before: str) -> Any:
        now = text(home)
        return gr.skip() if now == before else (now, now)

    pulse.beat(look, last, [line, last], **quiet())
    blocks.load(lambda: (text(home),) * 2, None, [line, last], **quiet())
    return line


def text(home: Path) -> str:
    """HTML: the name of the program, and the run that is going on."""
    items = queue.entries(home)
    waiting = sum(item.shown is Shown.WAITING for item in items)
    others = sum(item.shown in BUSY for item in items) - 1
    item = items[0] if items and items[0].shown in BUSY else None
    if item is None:
        return IDLE
    left = progress.time_left(item, progress.track(item.run))
    parts = [f"<b>{html.escape(item.run.name)}</b> {item.shown.value}"]
    parts += [f"{item.status.step} of {item.status.total}"] if item.status.total else []
    parts += [f"{left} left"] if left else []
    parts += [f"{others} more running"] if others else []
    parts += [f"{waiting} waiting"] if waiting else []
    share = 100 * item.status.step / item.status.total if item.status.total else 0
    now = f'<span class="now" style="--share:{share:.0f}%">{" · ".join(parts)}</span>'
    return f'<div class="brand"><b>LoRA Atelier</b>{now}</div>'
