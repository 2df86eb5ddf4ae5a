"""Queue: every run with its state; stop, resume, order, remove and undo."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs import queue
from app.jobs.model import BUSY, RESUMABLE, Shown
from app.jobs.queue import Entry
from app.views import progress
from app.views.page import Page, empty, kindly, quiet
from trainer.contract.errors import UserError

ID = "queue"
HEADERS = ["", "run", "state", "progress", "loss", "left"]
SIGNS = {Shown.DONE: "✓", Shown.FAILED: "✕", Shown.LOST: "!", Shown.STOPPED: "■", Shown.WAITING: "…", Shown.NEW: "○"}
EMPTY = empty("Nothing is queued", "Runs that you start in the Train tab line up here, one after the other.")


def build(page: Page) -> None:
    """Lay out the tab."""
    nothing = gr.HTML(EMPTY)
    chosen = gr.Textbox("", visible="hidden", elem_id="queue-chosen")
    trashed = gr.Textbox("", visible="hidden")
    table = gr.Dataframe(headers=HEADERS, datatype="str", type="array", interactive=False, visible=False,
                         show_label=False, column_widths=["5%", "30%", "25%", "18%", "10%", "12%"], buttons=[],
                         elem_id="queue-table")  # fmt: skip
    picked = gr.HTML(elem_id="queue-picked")
    with gr.Row(elem_classes="tight wrap"):
        stop = gr.Button("Stop and save", variant="stop", size="md", visible=False, elem_id="queue-stop", min_width=110)
        resume = gr.Button("Resume", variant="primary", size="md", visible=False, elem_id="queue-resume", min_width=110)
        up = gr.Button("Move up", size="md", visible=False, elem_id="queue-up", min_width=110)
        down = gr.Button("Move down", size="md", visible=False, elem_id="queue-down", min_width=110)
        show = gr.Button("Show in Train", size="md", visible=False, elem_id="queue-show", min_width=110)
        remove = gr.Button("Remove", size="md", visible=False, elem_id="queue-remove", min_width=110)
        undo = gr.Button("Undo remove", size="md", visible=False, elem_id="queue-undo", min_width=110)
    seen = gr.Textbox("", visible="hidden")
    buttons = [stop, resume, up, down, show, remove]

    def look(name: str, last: str) -> Any:
        return _look(page, name, last)

    update: dict[str, Any] = {
        "fn": look, "inputs": [chosen, seen], "outputs": [seen, nothing, table, picked, *buttons], **quiet(),
    }  # fmt: skip
    timer = gr.Timer(1.5)
    gr.on([timer.tick, chosen.change], trigger_mode="always_last", **update)
    page.blocks.load(**update)
    table.select(_pick, None, chosen, **quiet())
    stop.click(kindly(lambda name: gr.Info(queue.stop(page.home, name))), chosen, None, **quiet()).then(**update)
    resume.click(kindly(lambda name: queue.resume(page.home, name)), chosen, None, **quiet()).then(**update)
    up.click(lambda name: queue.move(page.home, name, True), chosen, None, **quiet()).then(**update)
    down.click(lambda name: queue.move(page.home, name, False), chosen, None, **quiet()).then(**update)
    show.click(lambda name: (name, gr.Tabs(selected="train")), chosen, [page.run, page.tabs], **quiet())
    remove.click(kindly(lambda name: _remove(page, name)), chosen, [trashed, undo, chosen], **quiet()).then(**update)
    undo.click(kindly(lambda path: _restore(page, path)), trashed, [trashed, undo, chosen], **quiet()).then(**update)


def _pick(event: gr.SelectData) -> str:
    return str(event.row_value[1])


def _look(page: Page, name: str, last: str) -> Any:
    items = queue.entries(page.home)
    rows = [_row(item) for item in items]
    now = f"{name}|{rows}"
    if now == last:
        return gr.skip()
    item = next((item for item in items if item.run.name == name), None)
    return (
        now,
        gr.HTML(visible=not rows),
        gr.Dataframe(rows, visible=bool(rows)),
        progress.bar(item, progress.track(item.run)) if item else _hint(rows),
        *_buttons(item),
    )


def _hint(rows: list[list[str]]) -> str:
    return '<div class="hint">Click a run to stop, resume, move or remove it.</div>' if rows else ""


def _row(item: Entry) -> list[str]:
    found = progress.track(item.run)
    loss = progress.last_loss(found)
    share = f"{item.status.step} of {item.status.total}" if item.status.total else "–"
    words = f"{item.shown.value}, started outside" if item.outside else item.shown.value
    sign = SIGNS.get(item.shown, "▶")
    return [
        sign,
        item.run.name,
        words,
        share,
        f"{loss:.4f}" if loss is not None else "–",
        progress.time_left(item, found) or "–",
    ]


def _buttons(item: Entry | None) -> tuple[gr.Button, ...]:
    shown = item.shown if item else None
    waiting = shown is Shown.WAITING
    return (
        gr.Button("Take out of the queue" if waiting else "Stop and save", visible=waiting or shown in BUSY),
        gr.Button(visible=shown in RESUMABLE),
        gr.Button(visible=waiting),
        gr.Button(visible=waiting),
        gr.Button(visible=item is not None),
        gr.Button(visible=item is not None and shown not in BUSY),
    )


def _remove(page: Page, name: str) -> Any:
    place = queue.remove(page.home, name)
    gr.Info(f"{name} is in the trash.")
    return str(place), gr.Button(visible=True), ""


def _restore(page: Page, trashed: str) -> Any:
    path = Path(trashed)
    if path.parent != page.home / ".trash" / "runs":
        raise UserError("this is not in the trash", trashed, "Look into the trash folder by hand.")
    return "", gr.Button(visible=False), queue.restore(page.home, path)
