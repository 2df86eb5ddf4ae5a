"""What the parts of the Dataset tab share: the picture that is open, those that are selected, and word of a change."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.views import grid, sets
from app.views.page import Page, kindly, quiet
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry


def hidden(name: str) -> gr.Textbox:
    """A value that lives in the page unseen. Not to be put into a hidden part: it would be shown together with that."""
    return gr.Textbox("", visible="hidden", elem_id=f"dataset-{name}")


@dataclass(frozen=True)
class Desk:
    """The parts never import each other: they meet here. All are texts, so that an event carries them as they stood.

    Attributes:
        page: the page; its `dataset` is the folder of the set.
        picture: id of the open picture.
        before: its caption as it was read, to know whether somebody has typed.
        chosen: ids of the selected pictures, with spaces between.
        meant: ids of the pictures that "Leave out" and "Delete" say they are for.
        told: what somebody else wrote, when it was said instead of being replaced.
        number: of the page of tiles, from 0.
        changed: anything new, after the set was changed; whoever shows something of it follows.
        wanted: id of a picture that a part wants to be opened.
        words: trigger and class word as they were read or kept last.
        visit: number of the doctor's examination that is shown.
    """

    page: Page
    picture: gr.Textbox
    before: gr.Textbox
    chosen: gr.Textbox
    meant: gr.Textbox
    told: gr.Textbox
    number: gr.Textbox
    changed: gr.Textbox
    wanted: gr.Textbox
    words: gr.Textbox
    visit: gr.Textbox

    def follow(self, fn: Callable[..., Any], inputs: Any, outputs: Any, **more: Any) -> None:
        """Do something when another set is chosen, and when this one was changed."""
        gr.on([self.page.dataset.change, self.changed.change], kindly(fn), inputs, outputs, **quiet(**more))

    def own(self, path: str) -> Path:
        """Folder of the set, ready to be changed. Raises UserError where it may not be."""
        if not path:
            raise UserError("no set is chosen", "Set of pictures", "Choose a set, or make one.")
        sets.editable(self.page.home, Path(path))
        return Path(path)


def news() -> str:
    """A text that was not there before, for `Desk.changed`."""
    return str(time.time_ns())


@dataclass(frozen=True)
class Words:
    """The filter above the tiles."""

    text: gr.Textbox
    kind: gr.Dropdown


def look(path: str, text: str, kind: str) -> tuple[Album, list[Entry]]:
    """The set, and what its filter lets through."""
    album = sets.album(Path(path)) if path else Album()
    return album, grid.matching(album, text or "", kind or "all")
