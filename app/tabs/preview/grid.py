"""Grids: any two things that vary, drawn in as few passes as the engine plans, cells appearing as they come."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from app.tabs.preview import axes
from app.tabs.preview.controls import Controls, filled
from app.tabs.preview.drawing import Desk, Pace, View, bar_html
from app.tabs.preview.form import Form, form_of, wanted
from app.tabs.preview.stage import Shown, Table
from app.views import pictures, previews
from app.views.page import Page, kindly, quiet
from app.views.previews import address
from trainer.contract.errors import UserError
from trainer.contract.grids import Axis, GridRequest, Label, cells, files_on, labels
from trainer.contract.requests import GenerateRequest, Shared

NOTHING = ("nothing", "")


@dataclass(frozen=True)
class Part:
    """The components that say what varies: kinds and values, across and down."""

    x: gr.Dropdown
    x_values: gr.Dropdown
    y: gr.Dropdown
    y_values: gr.Dropdown
    go: gr.Button

    @property
    def axes(self) -> list[gr.Dropdown]:
        """In the order of `said`."""
        return [self.x, self.x_values, self.y, self.y_values]


def build(page: Page, controls: Controls) -> Part:
    """Lay them out."""
    kinds: list[tuple[str, str]] = [(offer.title, kind) for kind, offer in axes.OFFERS.items()]
    with gr.Accordion("Grid: vary one or two things", open=False, elem_id="preview-grid"):
        x, x_values = _axis("x", "Across", kinds, "strength")
        y, y_values = _axis("y", "Down", [NOTHING, *kinds], "")
        go = gr.Button("Draw the grid", elem_id="preview-grid-go")
    part = Part(x, x_values, y, y_values, go)
    for kind, values in ((part.x, part.x_values), (part.y, part.y_values)):

        def offer(given: dict[Any, Any], kind: gr.Dropdown = kind) -> Any:
            return offered(page, controls.read(given), given[kind])

        kind.input(kindly(offer), {kind, *controls.all}, values, **quiet())
    return part


def _axis(name: str, words: str, kinds: list[tuple[str, str]], first: str) -> tuple[gr.Dropdown, gr.Dropdown]:
    given = axes.SHEET if first else ()
    with gr.Row(elem_classes="tight"):
        kind = gr.Dropdown(kinds, value=first, label=words, elem_id=f"preview-{name}", min_width=140, scale=2)
        values = gr.Dropdown(
            [(one, one) for one in given], value=["0", "0.5", "1"] if first else [], multiselect=True,
            allow_custom_value=True, label="Values", min_width=180, scale=4, elem_id=f"preview-{name}-values",
            visible=bool(first),
        )  # fmt: skip
    return kind, values


def offered(page: Page, form: Form, kind: str, values: Sequence[str] | None = None) -> gr.Dropdown:
    """The list of values of a kind of axis, with some of them chosen: its first ones where none are given."""
    if not kind:
        return gr.Dropdown([], value=[], visible=False)
    offer = axes.OFFERS[kind]  # type: ignore[index]
    given = list(offer.first(page.home, form) if values is None else values)
    listed = list(offer.values(page.home, form))
    known = {value for _, value in listed}
    return gr.Dropdown([*listed, *((one, one) for one in given if one not in known)], value=given, visible=True)


def said(page: Page, form: Form, chosen: Sequence[tuple[str, Sequence[str] | None]]) -> list[Any]:
    """Values for `Part.axes`: (kind, values) across and down; None for what is offered."""
    return [value for kind, values in chosen for value in (kind, offered(page, form, kind, values))]


def varied(page: Page, form: Form, request: GridRequest) -> list[Any]:
    """Values for `Part.axes`: what varies in a grid that was drawn."""
    sides = [
        (axis.kind, [value or axes.NO_ADAPTER for value in axis.values]) if axis else ("", None)
        for axis in (request.x, request.y)
    ]
    return said(page, form, sides)


def request_of(home: Path, form: Form, across: Axis | None, down: Axis | None) -> GridRequest:
    """The grid of a form.

    Raises:
        UserError: something is missing, or cannot be.
    """
    if across is None:
        raise UserError("nothing varies across", "Grid", "Choose what varies.")
    files = files_on(filter(None, (across, down)))
    drawn = axes.with_file(form, files[0]) if files else form
    given = next((axis for axis in (across, down) if axis and axis.kind == "prompt"), None)
    if given and not form.prompt.strip():
        drawn = drawn.model_copy(update={"prompt": given.values[0]})
    request = wanted(home, drawn, previews.folder(home)).request
    shared = {name: getattr(request, name) for name in Shared.model_fields}
    try:
        grid = GridRequest(**shared, picture=request.pictures[0], x=across, y=down)
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"], "Grid", "Change it there.") from None
    cells(grid)  # a mistake is told before anything is drawn
    return grid


def draw(desk: Desk, form: Form, across: Axis | None, down: Axis | None, slot: str) -> Iterator[View]:
    """Draw a grid; every cell is shown as soon as it is there.

    Raises:
        UserError: the form, the axes or the engine say so.
    """
    request = request_of(desk.home, form, across, down)
    facts = {"words": _words(request), "picture": f"{request.id}-sheet.png", "form": form.model_dump(mode="json"),
             "grid": request.model_dump(mode="json"), "files": _files(request),
             "cover": _files(request)[len(_files(request)) // 2]}  # fmt: skip
    previews.keep(desk.home, request.id, facts)
    table, pace = _table(request), Pace()
    total, began = len(table.columns) * len(table.rows), time.monotonic()
    yield bar_html("Getting ready …", 0), table.value(), gr.skip()
    for answer in desk.engine.draw(request, slot):
        if answer["kind"] == "progress" and pace.due():
            words = f"Drawing {total} pictures"
            yield bar_html(words, 100 * answer["step"] / max(1, answer["steps"])), gr.skip(), gr.skip()
        elif answer["kind"] == "picture":
            table = _with(table, int(answer["place"]), Path(answer["file"]))
            yield gr.skip(), table.value(), gr.skip()
        elif answer["kind"] == "cancelled" and desk.engine.newest(request, slot):
            yield '<div class="sides"><span>Cancelled. What is there stays.</span></div>', gr.skip(), gr.skip()
        elif answer["kind"] == "done":
            took = f"{total} pictures drawn in {time.monotonic() - began:.1f} s"
            yield f'<div class="sides" data-grid="{request.id}"><span>{took}</span></div>', \
                table_of(desk.home, request.id, facts).value(), request.id  # fmt: skip


def drawn(desk: Desk, part: Part, form: Form, values: dict[Any, Any], slot: str) -> Iterator[View]:
    """Draw the grid that stands in the page.

    Raises:
        UserError: as `draw`.
    """
    across, down = (axes.axis(desk.home, values[kind], values[given])
                    for kind, given in ((part.x, part.x_values), (part.y, part.y_values)))  # fmt: skip
    yield from draw(desk, form, across, down, slot)


def sheet(page: Page, form: Form) -> list[Any]:
    """Values for `Part.axes`: strengths side by side."""
    return said(page, form, [("strength", axes.SHEET), ("", None)])


def _words(request: GridRequest) -> str:
    axes_ = [f"{axes.OFFERS[axis.kind].title}" for axis in (request.x, request.y) if axis]
    return f"{' x '.join(axes_)}: {request.picture.prompt}"


def _files(request: GridRequest) -> list[str]:
    count = len(request.x.values) * (len(request.y.values) if request.y else 1)
    return [*(f"{request.id}-{place}.png" for place in range(count)), f"{request.id}-sheet.png"]


def _table(request: GridRequest) -> Table:
    columns = labels(request.x)
    rows = labels(request.y) if request.y else [Label("", "")]
    width, height = request.size or (1, 1)
    said = [tuple(label.value for label in side) for side in (columns, rows)]
    return Table(request.id, columns[0].what, rows[0].what, said[0], said[1], {}, width, height)


def _with(table: Table, place: int, file: Path) -> Table:
    size = (table.width, table.height) if table.cells else pictures.size(file) or (1, 1)
    cells_ = {**table.cells, place: address(file.name, "film")}
    return replace(table, cells=cells_, width=size[0], height=size[1])


def table_of(home: Path, entry: str, facts: dict[str, Any]) -> Table:
    """A grid as it was kept, with the cells that are there."""
    table = _table(GridRequest.model_validate(facts["grid"]))
    for place, name in enumerate(facts["files"][:-1]):
        if file := previews.file(home, name):
            table = _with(table, place, file)
    done = previews.file(home, facts["picture"]) is not None
    return replace(table, done=done)


def taken(page: Page, entry: str, place: int) -> list[Any]:
    """Values for the bar, the stage and `Controls.all`: a cell with all its settings.

    Raises:
        UserError: the grid is gone.
    """
    facts = previews.recall(page.home, entry)
    request: GenerateRequest = cells(GridRequest.model_validate(facts["grid"]))
    if not 0 <= place < len(request.pictures):
        raise UserError("there is no such picture", "Grid", "Click one that is there.")
    form, name = form_of(request, place), facts["files"][place]
    file = previews.file(page.home, name)
    size = (pictures.size(file) if file else None) or (1, 1)
    table = _table(GridRequest.model_validate(facts["grid"]))
    row, column = divmod(place, len(table.columns))
    sides = ((table.down, table.rows[row]), (table.across, table.columns[column]))
    words = ", ".join(filter(None, (" ".join(side).strip() for side in sides)))
    shown = Shown("", address(name), *size, words, download=name, back=entry)
    told = '<div class="sides"><span>Its settings are in the form: Draw shows it beside the base.</span></div>'
    return [told, shown.value(), *filled(form)]
