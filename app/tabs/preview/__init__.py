"""Preview: draw with the base and with adapters, side by side at the same seed; a slider for each strength; grids."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.preview import Engine
from app.tabs.preview import controls as form
from app.tabs.preview import drawing, grid, history, inviting, reading, rows, stage
from app.tabs.preview.drawing import CANCEL, Desk, View
from app.views import choices, previews
from app.views.page import Page, kindly, quiet, say
from trainer.contract.errors import UserError

ID = "preview"
Values = dict[Any, Any]
# What is followed only counts while one looks.
OPEN = """(rows, last) => {
    const open = document.querySelector("#tab-preview-button")?.getAttribute("aria-selected") === "true";
    return [open ? rows : "[]", last];
}"""


def build(page: Page) -> None:
    """Lay out the tab."""
    desk = Desk(page.home, Engine(page.home))
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=340):
            controls, buttons = form.build(page)
            part = grid.build(page, controls)
            with gr.Accordion("Take settings from a picture", open=False, elem_id="preview-from"):
                dropped = gr.File(label="A PNG of A1111, Forge or this program", file_types=[".png"], height=140,
                                  elem_id="preview-drop")  # fmt: skip
        with gr.Column(scale=6, min_width=340):
            bar = gr.HTML("", elem_id="preview-bar", js_on_load=CANCEL, apply_default_css=False, padding=False)
            shown = stage.build()
            past = history.build()
    outputs = [bar, shown, past]
    event: dict[str, Any] = {"inputs": set(controls.all), "outputs": outputs, **quiet(trigger_mode="multiple")}
    nudged, tabled = _wire_drawing(page, desk, controls, part, buttons, event)
    _follow(page, controls, nudged)
    _wire_past(page, controls, part, outputs, dropped)
    inviting.wire(page, controls, part, nudged, tabled)

    def cancel(request: gr.Request) -> None:
        desk.engine.cancel(str(request.session_hash))

    bar.cancel(cancel, None, None, **quiet())


def _wire_drawing(
    page: Page, desk: Desk, controls: form.Controls, part: grid.Part, buttons: form.Buttons, event: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What draws; returns the events that draw the picture, if there is a prompt, and the grid."""

    def drawn(values: Values, request: gr.Request) -> Iterator[View]:
        yield from _said(lambda: drawing.draw(desk, controls.read(values), str(request.session_hash)))

    def prompted(values: Values) -> bool:
        return bool(str(values[controls.prompt] or "").strip())

    def nudged(values: Values, request: gr.Request) -> Iterator[View]:
        """What changes while nothing can be drawn yet is no mistake."""
        yield from drawn(values, request) if prompted(values) else [drawing.NOTHING]

    def drafted(values: Values, request: gr.Request) -> Iterator[View]:
        draft = _said(lambda: drawing.draft(desk, controls.read(values), str(request.session_hash)))
        yield from draft if prompted(values) else [drawing.NOTHING]

    def table(values: Values, request: gr.Request) -> Iterator[View]:
        yield from _said(lambda: grid.drawn(desk, part, controls.read(values), values, str(request.session_hash)))

    tabled: dict[str, Any] = {"fn": table, **event, "inputs": {*controls.all, *part.axes}}
    gr.on([buttons.draw.click, controls.prompt.submit], drawn, **event)
    controls.rows.moved(nudged, **event)
    controls.rows.moving(drafted, **event)
    part.go.click(**tabled)
    buttons.dice.click(lambda: random.randrange(2**31), None, controls.seed, **quiet()).then(drawn, **event)
    buttons.sheet.click(kindly(lambda values: grid.sheet(page, controls.read(values))), set(controls.all),
                        part.axes, **quiet()).then(**tabled)  # fmt: skip
    return {"fn": nudged, **event}, tabled


def _said(draw: Callable[[], Iterator[View]]) -> Iterator[View]:
    """What is drawn; a mistake is said, and the page stays as it was."""
    try:
        yield from draw()
    except UserError as error:
        say(error)
        yield "", gr.skip(), gr.skip()


def _follow(page: Page, controls: form.Controls, event: dict[str, Any]) -> None:
    """Draw again when a run that a row follows has saved, while the tab is open."""
    last, again = (gr.Textbox("", visible="hidden") for _ in range(2))

    def look(value: str, before: str) -> Any:
        chosen = [str(row.get("file", "")) for row in rows.read(value) if row.get("on")]
        now = choices.following(page.home, chosen)
        if now == before or value == "[]":
            return gr.skip(), gr.skip()
        return now, now if now and before else gr.skip()

    page.pulse.beat(look, [controls.rows, last], [last, again], trigger_mode="once", js=OPEN, **quiet())
    again.change(**event)


def _wire_past(page: Page, controls: form.Controls, part: grid.Part, outputs: list[gr.HTML], dropped: gr.File) -> None:
    """A picture of the history, a cell of a grid and a file that is dropped in bring their settings back."""
    bar, shown, past = outputs
    filled = [bar, shown, *controls.all]

    def restore(event: gr.EventData) -> Any:
        return history.restored(page, str(event.id))

    def back(event: gr.EventData) -> Any:
        return history.table(page, str(event.id))

    def take(event: gr.EventData) -> Any:
        return grid.taken(page, str(event.id), int(event.place))

    def read(path: str, base: str) -> Any:
        found, told = reading.read(page.home, reading.text_of(Path(path)), base)
        strengths = [row.strength for row in found.rows]
        said = drawing.caption_html(strengths, told, words="its settings are in the form")
        return [said, reading.shown(Path(path), found).value(), *form.filled(found)]

    past.restore(kindly(restore), None, [*filled, *part.axes], **quiet())
    shown.back(kindly(back), None, [bar, shown], **quiet())
    shown.take(kindly(take), None, filled, **quiet())
    dropped.upload(kindly(read), [dropped, controls.base], filled, **quiet()).then(
        lambda: None, None, dropped, **quiet()
    )
    page.on_open(lambda: previews.newest(page.home), past)
