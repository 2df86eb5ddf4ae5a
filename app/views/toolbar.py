"""What can be done with a run: the buttons under its bar, those of its row, and undo."""

import html
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gradio as gr

from app.jobs import queue
from app.jobs.model import Act, Shown, may
from app.jobs.queue import Entry
from app.views import refusal
from app.views.adapters import link_in_run
from app.views.page import Page, kindly, quiet
from app.views.sheets import CHECKPOINTS, STRENGTHS, ask
from trainer.contract.errors import UserError

Kind = Literal["primary", "secondary", "stop"]


class Bin(NamedTuple):
    """What was deleted last, and the way back.

    Attributes:
        place: where it lies in the trash.
        whole: shown while there is something to bring back.
        words: what that is.
    """

    place: gr.Textbox
    whole: gr.Row
    words: gr.HTML


# Button -> (its words, its kind, what it asks for); those of a row that need no more than the run's name are in `DO`.
BUTTONS: dict[str, tuple[str, Kind, Act]] = {
    "resume": ("Resume", "primary", Act.RESUME),
    "pause": ("Pause", "secondary", Act.PAUSE),
    "stop": ("Stop and save", "stop", Act.STOP),
    "force": ("Force stop", "stop", Act.FORCE),
    "duplicate": ("Duplicate", "secondary", Act.DUPLICATE),
    "delete": ("Delete", "secondary", Act.REMOVE),
}
SHEETS = {STRENGTHS: "Strength sheet", CHECKPOINTS: "Checkpoints × strength"}
DO = {
    "stop": queue.stop,
    "pause": queue.pause,
    "force": queue.force_stop,
    "top": lambda home, name: queue.move(home, name, up=True, far=True),
    "up": lambda home, name: queue.move(home, name, up=True),
    "down": lambda home, name: queue.move(home, name, up=False),
}


def build_bin(page: Page) -> Bin:
    """Lay out the way back from a delete."""
    place = gr.Textbox("", visible="hidden")
    with gr.Row(visible=False, elem_classes="who") as whole:
        words = gr.HTML("")
        undo = gr.Button("Undo", size="sm", elem_id="queue-undo", scale=0, min_width=80)
    trash = Bin(place, whole, words)
    undo.click(kindly(lambda path: _restore(page, path)), place, [*trash, page.run], **quiet())
    return trash


def build(page: Page, about: gr.Textbox, trash: Bin) -> tuple[refusal.Refusal, list[gr.Button]]:
    """Lay out the buttons, and the place below them where a refused resume is explained."""
    with gr.Row(elem_classes="tight wrap", elem_id="run-acts"):
        made = {
            name: gr.Button(
                words, variant=kind, visible=False, elem_id=f"run-{name}", min_width=100, size="md", scale=0
            )
            for name, (words, kind, _) in BUTTONS.items()
        }
        attempt = gr.Button("Try it in Preview", visible=False, elem_id="run-try", min_width=140, size="md", scale=0)
        download = gr.Button("Download", visible=False, elem_id="run-download", min_width=100, size="md", scale=0)
        sheets = [
            gr.Button(words, visible=False, elem_id=f"run-{kind}", min_width=140, size="md", scale=0)
            for kind, words in SHEETS.items()
        ]
    refused = refusal.build(page, about)
    for name in DO.keys() & made.keys():
        made[name].click(kindly(lambda run, name=name: do(page, name, run)), page.run, None, **quiet())
    made["resume"].click(kindly(lambda name: refusal.resume(page, name)), page.run, [*refused], **quiet())
    made["duplicate"].click(kindly(lambda name: _duplicate(page, name)), page.run, page.run, **quiet())
    made["delete"].click(kindly(lambda name: _delete(page, name)), page.run, [*trash, page.run], **quiet())
    attempt.click(
        lambda name: (str(queue.entry(page.home, name).run.adapter_file), gr.Tabs(selected="preview")),
        page.run, [page.adapter, page.tabs], **quiet(),
    )  # fmt: skip
    for kind, button in zip(SHEETS, sheets, strict=True):
        button.click(
            lambda name, kind=kind: (ask(kind, queue.entry(page.home, name).run.adapter_file),
                                     gr.Tabs(selected="preview")),
            page.run, [page.sheet, page.tabs], **quiet(),
        )  # fmt: skip
    return refused, [*made.values(), attempt, download, *sheets]


def shown(item: Entry | None) -> list[gr.Button]:
    """The buttons as a run in its state has them."""
    done = item is not None and item.shown is Shown.DONE and item.run.adapter_file.exists()
    words = {"resume": "Start" if item and item.shown is Shown.NEW else "Resume",
             "stop": "Take out of the queue" if item and item.shown is Shown.WAITING else "Stop and save"}  # fmt: skip
    link = link_in_run(item.run.adapter_file) if item and done else None
    return [
        *(gr.Button(words.get(name, label), visible=item is not None and may(act, item.shown))
          for name, (label, _, act) in BUTTONS.items()),
        gr.Button(visible=done),
        gr.Button(visible=done, link=link),
        gr.Button(visible=done),
        gr.Button(visible=done and item is not None and bool(item.run.step_files())),
    ]  # fmt: skip


def do(page: Page, act: str, name: str) -> None:
    """Do what a button asks for; what becomes of it is said. Raises UserError where that may not be."""
    if said := DO[act](page.home, name):
        gr.Info(said)


def resume_row(page: Page, name: str) -> None:
    """Let a run go on, or say where it is told why it cannot. Raises UserError."""
    if refusal.resume(page, name)[1]:
        raise UserError("This cannot go on as the same run", name, "Open it and press Resume to read why.")


def _duplicate(page: Page, name: str) -> str:
    run = queue.duplicate(page.home, name)
    gr.Info(f"{run.name} has the settings of {name}. Change it if you like, then press Start.")
    return run.name


def _delete(page: Page, name: str) -> tuple[Any, ...]:
    place = queue.remove(page.home, name)
    return str(place), gr.Row(visible=True), _words(name), ""


def _words(name: str) -> str:
    return f"{html.escape(name)} is in the trash."


def _restore(page: Page, trashed: str) -> tuple[Any, ...]:
    path = Path(trashed)
    if path.parent != queue.trash(page.home):
        raise UserError("this is not in the trash", trashed, "Look into the trash folder by hand.")
    return "", gr.Row(visible=False), "", queue.restore(page.home, path)
