"""The cards of the Library: searched, filtered, sorted, a page at a time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.views import cards, shelf
from app.views.page import Page, in_turn, quiet
from app.views.shelf import Sought

SCRIPT = Path(__file__).with_name("gallery.js").read_text("utf-8")


@dataclass(frozen=True)
class Gallery:
    """The components of the gallery.

    Attributes:
        filters: text, family, place, tag, order, as `Sought` has them.
        tiles: the cards.
        number: of the page, from 0.
        kinds: what can be filtered by, as JSON; its lists follow where that changes.
    """

    filters: tuple[Any, ...]
    tiles: gr.HTML
    number: gr.Textbox
    kinds: gr.Textbox

    @property
    def asked(self) -> list[Any]:
        """What `look` is given."""
        return [*self.filters, self.number]

    @property
    def outputs(self) -> list[Any]:
        """What `look` fills."""
        return [self.tiles, self.kinds]


def build() -> Gallery:
    """Lay out filter and cards."""
    narrow: dict[str, Any] = {"container": False, "show_label": False, "min_width": 130, "scale": 2}
    with gr.Row(elem_classes="tight", elem_id="library-filter"):
        text = gr.Textbox("", placeholder="search: name, trigger word, tag, note", label="Search the library",
                          elem_id="library-search", **{**narrow, "min_width": 320, "scale": 8})  # fmt: skip
        family = gr.Dropdown([("every base", "")], value="", label="Base", elem_id="library-family", **narrow)
        place = gr.Dropdown([("from everywhere", "")], value="", label="From", elem_id="library-place", **narrow)
        tag = gr.Dropdown([("every tag", "")], value="", label="Tag", elem_id="library-tag", **narrow)
        order = gr.Dropdown([(title, key) for key, (title, _) in shelf.ORDERS.items()], value="new", label="Order",
                            elem_id="library-order", **narrow)  # fmt: skip
    tiles = gr.HTML("", elem_id="library-gallery", js_on_load=SCRIPT, apply_default_css=False, padding=False)
    number, kinds = gr.Textbox("0", visible="hidden"), gr.Textbox("", visible="hidden")
    return Gallery((text, family, place, tag, order), tiles, number, kinds)


def wire(page: Page, part: Gallery) -> None:
    """What is shown follows the filter, the page that is turned to, and the reading of files."""

    def draw(*values: Any) -> str:
        return _tiles(page, shelf.shown_before(page.home), values)

    def first(*values: Any) -> tuple[str, str]:
        return "0", draw(*values[:5], "0")

    def turn(event: gr.EventData, *values: Any) -> tuple[str, str]:
        return str(int(event.page)), draw(*values[:5], str(int(event.page)))

    def follow(told: str, *before: str) -> list[gr.Dropdown]:
        rows = json.loads(told) if told else []
        return [
            gr.Dropdown([tuple(choice) for choice in row], value=value if value in {known for _, known in row} else "")
            for row, value in zip(rows, before, strict=True)
        ]

    changes = [part.filters[0].change, *(one.input for one in part.filters[1:])]
    gr.on(changes, first, part.asked, [part.number, part.tiles], **in_turn("library-tiles"))
    part.tiles.turn(turn, part.asked, [part.number, part.tiles], **quiet())
    part.tiles.again(lambda *values: look(page, *values), part.asked, part.outputs, **quiet())
    part.kinds.change(follow, [part.kinds, *part.filters[1:4]], [*part.filters[1:4]], **quiet())


def look(page: Page, *values: Any) -> tuple[str, str]:
    """The gallery as the files are now; values for `Gallery.outputs`.

    Args:
        page: see `Page`.
        values: of the filter, and the number of the page.
    """
    found = shelf.cards(page.home)
    kinds = [shelf.families(found), shelf.places(page.home, found), shelf.tags(found)]
    return _tiles(page, found, values), json.dumps(kinds)


def _tiles(page: Page, found: list[shelf.Card], values: Any) -> str:
    sought, number = Sought(*values[:5]), str(values[5])
    place = int(number) if number.isdecimal() else 0
    return cards.grid_html(shelf.chosen(found, sought), len(found), place, shelf.reading(page.home))
