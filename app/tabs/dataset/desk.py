"""What the parts of the Dataset tab share: the picture that is open, those that are selected, and word of a change."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.views import grid, sets
from app.views.page import Page, in_turn, say
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry


def hidden(name: str) -> gr.Textbox:
    """A value that lives in the page unseen. Not to be put into a hidden part: it would be shown together with that."""
    return gr.Textbox("", visible="hidden", elem_id=f"dataset-{name}")


class _Follower(NamedTuple):
    """A callback with the components that it reads and fills."""

    fn: Callable[..., Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]

    def answer(self, values: Iterator[Any]) -> Sequence[Any]:
        """A value for each output; `gr.skip()` where it fails with a message."""
        try:
            found = self.fn(*(next(values) for _ in self.inputs))
        except UserError as error:
            say(error)
            return [gr.skip()] * len(self.outputs)
        return found if len(self.outputs) > 1 else [found]


@dataclass(frozen=True)
class Desk:
    """The parts never import each other: they meet here. All are texts, so that an event carries them as they stood.

    Attributes:
        page: the page; its `dataset` is the folder of the set.
        picture: id of the open picture.
        before: its caption as it was read, to know whether somebody has typed.
        chosen: ids of the selected pictures, with spaces between, `bound` to the set that they were selected in.
        meant: ids of the pictures that "Leave out" and "Delete" say they are for.
        told: what somebody else wrote, when it was said instead of being replaced.
        number: of the page of tiles, from 0, `bound` to the set and filter that it was turned in.
        changed: anything new, after the set was changed; whoever shows something of it follows.
        wanted: id of a picture that a part wants to be opened.
        words: trigger and class word as they were read or kept last.
        visit: number of the doctor's examination that is shown.
        followers: what is done when another set is chosen or this one was changed.
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
    followers: list[_Follower] = field(default_factory=list, init=False)

    def follow(self, fn: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Do something when another set is chosen, and when this one was changed; all that is, in one request."""
        self.followers.append(_Follower(fn, inputs, outputs))

    def settle(self) -> None:
        """Wire what follows; to be called when the tab is complete."""
        inputs = [one for follower in self.followers for one in follower.inputs]
        outputs = [one for follower in self.followers for one in follower.outputs]

        def answer(*values: Any) -> list[Any]:
            given = iter(values)
            return [one for follower in self.followers for one in follower.answer(given)]

        changes = [self.page.dataset.change, self.changed.change]
        gr.on(changes, answer, inputs, outputs, **in_turn("dataset-followers"))

    def own(self, path: str) -> Path:
        """Folder of the set, ready to be changed. Raises UserError where it may not be."""
        if not path:
            raise UserError("no set is chosen", "Set of pictures", "Choose a set, or make one.")
        sets.editable(self.page.home, Path(path))
        return Path(path)


def news() -> str:
    """A text that was not there before, for `Desk.changed`."""
    return str(time.time_ns())


def bound(where: Sequence[str], value: str) -> str:
    """A text that counts in one place only, so that nobody has to empty it, too late perhaps, on going elsewhere."""
    return json.dumps([*where, value])


def of(where: Sequence[str], text: str) -> str:
    """What `bound` was given, where this is the place that it was given for; else nothing."""
    *place, value = json.loads(text) if text else [""]
    return value if place == [*where] else ""


@dataclass(frozen=True)
class Words:
    """The filter above the tiles."""

    text: gr.Textbox
    kind: gr.Dropdown


def look(path: str, text: str, kind: str) -> tuple[Album, list[Entry]]:
    """The set, and what its filter lets through."""
    album = sets.album(Path(path)) if path else Album()
    return album, grid.matching(album, text or "", kind or "all")
