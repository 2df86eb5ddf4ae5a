"""What every tab is given, and how a mistake is said in the page."""

import functools
import html
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from trainer.contract.errors import UserError

# A click on a plain link to a file counts as leaving the page: Gradio's client hangs up, and the page is loaded again.
STAYS = """() => document.addEventListener("click", event => {
    const link = event.target.closest?.('a[href^="/adapters/"]');
    if (link) link.download = "";
}, true)"""

# What a part of the page tells of before all of it is there, nobody hears: whoever cannot tell it again waits for this.
LIVE = "() => { document.documentElement.dataset.live = 'yes'; }"

# What stands in `data-copy` is copied by a click. A page that is not reached over TLS has no clipboard but the old way.
COPIES = """() => document.addEventListener("click", async event => {
    const chip = event.target.closest?.("[data-copy]");
    if (!chip) return;
    try {
        await navigator.clipboard.writeText(chip.dataset.copy);
    } catch {
        const box = Object.assign(document.createElement("textarea"), { value: chip.dataset.copy });
        document.body.append(box);
        box.select();
        document.execCommand("copy");
        box.remove();
        chip.focus();
    }
    chip.classList.add("copied");
    setTimeout(() => chip.classList.remove("copied"), 1200);
}, true)"""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Page:
    """What the tabs share. Tabs never import each other: they meet here.

    Attributes:
        home: the data folder.
        blocks: the whole page, for what happens when it is loaded.
        tabs: the row of tabs, to change the one that is open.
        dataset: folder of the set of pictures one works on.
        run: name of the run one looks at.
        adapter: adapter file that Preview is asked to add.
        sheet: grid of a run that Preview is asked to draw, see `app.views.sheets`.
        seen: how the run that stands in Train would see pictures, see `app.views.eyes`.
        pulse: its event `beat` tells that something happened in the data folder, see `app.views.pulse`.
        tab: the tab that is being built.
    """

    home: Path
    blocks: gr.Blocks
    tabs: gr.Tabs
    dataset: gr.Textbox
    run: gr.Textbox
    adapter: gr.Textbox
    sheet: gr.Textbox
    seen: gr.Textbox
    pulse: gr.HTML
    tab: gr.Tab

    def on_open(self, fn: Callable[..., Any], outputs: Any, inputs: Any = None) -> None:
        """Do something when the tab is opened, and when the page is loaded."""
        self.tab.select(fn, inputs, outputs, **quiet())
        self.blocks.load(fn, inputs, outputs, **quiet())


def quiet(**more: Any) -> dict[str, Any]:
    """Options of an event that answers at once: as many at a time as come, no progress shown, no part of a public API.

    It goes through the server's queue all the same: without it Gradio has no way to show a message in the page.
    """
    return {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private", **more}


def in_turn(name: str) -> dict[str, Any]:
    """Options of events that show the same thing: one after the other, so that an older answer never comes last.

    The browser sends an event before it knows that one of its kind is under way, so that two quick changes run side by
    side; what answers last would stay. The server's queue lets one of a name run at a time, in their order.
    """
    return {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last",
            "concurrency_limit": 1, "concurrency_id": name}  # fmt: skip


def one_by_one(name: str) -> dict[str, Any]:
    """Options of events that are all answered, in the order in which they were sent, whatever part they are of.

    Side by side what was sent first may be answered last: a word that is kept when one leaves its field for another tab
    would be read there before it is kept.
    """
    return quiet(trigger_mode="multiple", concurrency_limit=1, concurrency_id=name)


def settle(blocks: gr.Blocks) -> None:
    """Let no event run in a circle or be lost; to be called when the page is complete.

    Where a listener that is "always_last" was busy, Gradio 6.31 sends the whole event anew, to all its listeners, of
    which others are busy then: two changes shortly after each other go round and round without end. So listeners of an
    event that has several are told of each change, and answer in turn. So are those whose event says what was clicked:
    "once" would drop a click on one row while a click on another is under way.
    """
    heard = Counter(target for listener in blocks.fns.values() for target in listener.targets if target[0] is not None)
    for listener in blocks.fns.values():
        circles = listener.trigger_mode == "always_last" and any(heard[target] > 1 for target in listener.targets)
        if circles or (listener.trigger_mode == "once" and listener.collects_event_data):
            listener.trigger_mode, listener.concurrency_limit = "multiple", 1


def edited(*components: Any) -> list[Any]:
    """The events of components that are edited. In `input` a text box tells of keys, not of pasting and deleting."""
    return [one.change if isinstance(one, gr.Textbox) else one.input for one in components]


def say(error: UserError) -> None:
    """Show what went wrong, as a message that goes away by itself."""
    lines = [html.escape(line) for line in str(error).splitlines() if line]
    gr.Warning("<br>".join(lines), title="This did not work", duration=12)


def kindly(function: Callable[P, R]) -> Callable[P, R]:
    """Let a callback fail with a message instead of a traceback; the page stays as it was."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            say(error)
            return gr.skip()  # type: ignore[no-any-return]

    return wrapped


def empty(title: str, text: str) -> str:
    """HTML of a place where nothing is yet, saying what to do."""
    return f'<div class="empty"><b>{html.escape(title)}</b><span>{html.escape(text)}</span></div>'
