"""Taking the last change of a set back, and making it again; the buttons say which one that is."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from app.tabs.dataset.desk import Desk, news
from app.views.page import kindly, quiet
from trainer.pictures.album import next_redo, next_undo, redo, undo


def build(desk: Desk) -> None:
    """Lay out the two buttons; they stay where a set has lost all its pictures."""
    with gr.Row(elem_classes="tight"):
        back = gr.Button("Undo", size="sm", visible=False, elem_id="dataset-undo", min_width=360, scale=0)
        forth = gr.Button("Redo", size="sm", visible=False, elem_id="dataset-redo", min_width=360, scale=0)

    def travel(how: Callable[[Path], str]) -> Callable[[str], str]:
        def go(path: str) -> str:
            how(desk.own(path))
            return news()

        return go

    def ways(path: str) -> tuple[gr.Button, gr.Button]:
        labels = (next_undo(Path(path)), next_redo(Path(path))) if path else ("", "")
        undone, redone = (_short(label) for label in labels)
        return (
            gr.Button(f"Undo: {undone}", visible=bool(undone)),
            gr.Button(f"Redo: {redone}", visible=bool(redone)),
        )

    back.click(kindly(travel(undo)), desk.page.dataset, desk.changed, **quiet())
    forth.click(kindly(travel(redo)), desk.page.dataset, desk.changed, **quiet())
    desk.follow(ways, [desk.page.dataset], [back, forth])


def _short(label: str, most: int = 46) -> str:
    text = label[:1].lower() + label[1:]
    return text if len(text) <= most else f"{text[: most - 1]}…"
