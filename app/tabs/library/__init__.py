"""Library: adapters with their covers and facts, ours and other programs'; found, tried, sent, added, thrown away."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.tabs.library import detail, gallery
from app.tabs.library.detail import Detail
from app.tabs.library.gallery import Gallery
from app.views import adapters, shelf
from app.views.adapters import Adapter
from app.views.page import Page, kindly, one_by_one, quiet
from trainer.contract.errors import UserError

ID = "library"
LEFT = "() => { document.dispatchEvent(new Event('library-left')); }"


def build(page: Page) -> None:
    """Lay out the tab."""
    chosen, asked = (gr.Textbox("", visible="hidden", elem_id=f"library-{name}") for name in ("chosen", "asked"))
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=6, min_width=320):
            part = gallery.build()
            upload = gr.File(label="Add an adapter from elsewhere (.safetensors)", height=165, elem_id="library-upload")
        with gr.Column(scale=4, min_width=320):
            open_one = detail.build(page, chosen)
    again: dict[str, Any] = {
        "fn": lambda *values: gallery.look(page, *values), "inputs": part.asked, "outputs": part.outputs, **quiet(),
    }  # fmt: skip
    gallery.wire(page, part)
    detail.wire(page, open_one, again)
    open_one.made.change(**again)
    _wire_opening(page, part, open_one, asked)

    def add(path: str) -> Any:
        target = adapters.add(page.home, Path(path))
        gr.Info(f"{target.name} is in your library.")
        return detail.detail(page, adapters.find(page.home, str(target)))

    added = upload.upload(kindly(add), upload, open_one.shown, api_visibility="private", show_progress="minimal")
    added.then(lambda: None, None, upload, **quiet()).then(**again)


def _wire_opening(page: Page, part: Gallery, open_one: Detail, asked: gr.Textbox) -> None:
    """A card that is clicked, the newest when the tab is opened, the one that the address names.

    One at a time, in the order in which they were asked for: else the newest, which takes longer to find, could come
    over a card that was clicked meanwhile.
    """
    in_order = one_by_one("library-open")

    def pick(event: gr.EventData) -> Any:
        return detail.detail(page, shelf.recall(page.home, str(event.id)).item)

    def enter(before: str, key: str, *values: Any) -> Any:
        """The gallery; and where none is open or that is gone, the one that the address names, else the newest."""
        drawn = gallery.look(page, *values)
        if before and Path(before).exists():
            return *drawn, *[gr.skip()] * len(open_one.shown)
        item = _named_or_newest(page, "" if before else key)
        return *drawn, *(detail.detail(page, item) if item else ("", "", ""))

    def asked_for(key: str, *values: Any) -> Any:
        if not key:
            return [gr.skip()] * (1 + len(part.outputs) + len(open_one.shown))
        shown = detail.detail(page, shelf.recall(page.home, key).item)
        return gr.Tabs(selected=ID), *gallery.look(page, *values), *shown

    part.tiles.pick(kindly(pick), None, open_one.shown, **in_order)
    both = [*part.outputs, *open_one.shown]
    named = "new URLSearchParams(location.search).get('adapter') || ''"
    page.tab.select(enter, [open_one.chosen, asked, *part.asked], both, **in_order,
                    js=f"(before, _, ...rest) => [before, {named}, ...rest]")  # fmt: skip
    given = f"(_, ...rest) => [{named}, ...rest]"
    page.blocks.load(kindly(asked_for), [asked, *part.asked], [page.tabs, *both], js=given, **in_order)
    page.tabs.change(None, None, None, js=LEFT)


def _named_or_newest(page: Page, key: str) -> Adapter | None:
    """The adapter that an address names, else the newest that there is."""
    try:
        return shelf.recall(page.home, key).item if key else _newest(page)
    except UserError:  # the page says so when it is loaded
        return _newest(page)


def _newest(page: Page) -> Adapter | None:
    found = shelf.chosen(shelf.shown_before(page.home), shelf.Sought())
    return found[0].item if found else None
