"""The adapter that is open: what it is, what can be done with it, what somebody wrote down of it.

It is one piece of HTML with its own buttons: Gradio 6.31 goes through all components of the page for every component
that an event fills, and a click on a card is to be answered at once.
"""

import functools
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import owners
from app.clients.sending import send
from app.settings import load_settings
from app.views import adapters, conformance, labels, opened, removing, sets, shelf, tools
from app.views.adapters import Adapter
from app.views.page import Page, in_turn, kindly, quiet, say
from trainer.contract.errors import UserError
from trainer.formats.inspect import inspect
from trainer.pictures.bundle import beside

SCRIPT = Path(__file__).with_name("detail.js").read_text("utf-8")
LOOKING = '<div class="hint">Looking into the file …</div>'
KEPT = 64  # reports; a big file is read for a second or two


@dataclass(frozen=True)
class Detail:
    """The components of the open adapter.

    Attributes:
        chosen: its path.
        head: what it is and what can be done with it.
        told: what came of the last thing that was done.
        made: changes to the path of a file that a tool made.
        report: what is in the file, and what other programs do with it.
    """

    chosen: gr.Textbox
    head: gr.HTML
    told: gr.HTML
    made: gr.Textbox
    report: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What `detail` fills."""
        return [self.chosen, self.head, self.told]


def build(page: Page, chosen: gr.Textbox) -> Detail:
    """Lay out what is shown of one adapter."""
    head = gr.HTML("", elem_id="library-head", js_on_load=SCRIPT, apply_default_css=False, padding=False)
    told = gr.HTML("", elem_id="library-sent", padding=False)
    _, made = tools.build(page, chosen)
    return Detail(chosen, head, told, made, gr.HTML(elem_id="library-facts"))


def wire(page: Page, part: Detail, again: dict[str, Any]) -> None:
    """What can be done with the open adapter.

    Args:
        page: see `Page`.
        part: the components.
        again: the event that draws the gallery anew.
    """

    def alter(event: gr.EventData) -> Any:
        return _CHANGES[str(event.what)](page, str(event.id))

    def go(event: gr.EventData) -> Any:
        return _go(page, event)

    def note(event: gr.EventData) -> None:
        labels.write(shelf.recall(page.home, str(event.id)).item, str(event.tags), str(event.note))

    def sent(event: gr.EventData) -> Iterator[str]:
        yield from _send(page, str(event.id), str(event.to), bool(event.link))

    part.chosen.change(report, part.chosen, part.report, **in_turn("library-report"))
    targets = [page.run, page.dataset, page.adapter, page.tabs]
    part.head.go(kindly(go), None, targets, **quiet())
    part.head.alter(kindly(alter), None, part.shown, **quiet()).then(**again)
    part.head.note(kindly(note), None, None, **quiet()).then(**again)
    part.head.send(sent, None, part.told, **quiet(concurrency_limit=2))


def detail(page: Page, item: Adapter) -> list[Any]:
    """Values for `Detail.shown`."""
    card = shelf.card(page.home, item)
    if card.seen is None:  # a few milliseconds
        shelf.look_at(page.home, item)
        card = shelf.card(page.home, item)
    clients = load_settings(page.home).clients if owners.bounded() is None else ()
    return [str(item.path), opened.opened_html(card, _dataset(page, item), clients), ""]


def _go(page: Page, event: gr.EventData) -> Any:
    """Try the adapter, open the run or the set that it came from."""
    name, skip = str(event.name), gr.skip()
    if event.to == "preview":
        return skip, skip, str(shelf.recall(page.home, name).item.path), gr.Tabs(selected="preview")
    if event.to == "run":
        return name, skip, skip, gr.Tabs(selected="train")
    folder = next((folder for folder in sets.own(page.home) if folder.name == name), None)
    if folder is None:
        raise UserError("this set is not there any more", name, "Look into the Dataset tab.")
    return skip, str(folder), skip, gr.Tabs(selected="dataset")


def _use(page: Page, name: str) -> list[Any]:
    best = adapters.use(page.home, str(shelf.recall(page.home, name).item.path))
    gr.Info(f"{best.path.name} is the chosen one of {best.run.name if best.run else best.name} now.")
    return detail(page, best)


def _remove(page: Page, name: str) -> list[Any]:
    item = shelf.recall(page.home, name).item
    return ["", opened.removed_html(item.path.name, removing.remove(page.home, item).name), ""]


def _restore(page: Page, name: str) -> list[Any]:
    path = removing.restore(page.home, removing.trash(page.home) / Path(name).name)
    return detail(page, adapters.find(page.home, str(path)))


_CHANGES = {
    "version": lambda page, name: detail(page, shelf.recall(page.home, name).item),
    "use": _use,
    "remove": _remove,
    "restore": _restore,
}


def _send(page: Page, name: str, folder: str, link: bool) -> Iterator[str]:
    """Send it, saying so meanwhile: a big file takes some seconds."""
    try:
        owners.check_keeper("Send to")
        card = shelf.recall(page.home, name)
        client = next((one for one in load_settings(page.home).clients if one.folder == folder), None)
        if client is None:
            raise UserError("no program is chosen", "Send to", "Choose one; Settings says where they are.")
        source = card.item.path
        yield f'<div class="hint">Sending {html.escape(source.name)} to {client.title} …</div>'
        yield opened.sent_html(card, client.title, send(client, source, lambda file: beside(source, file), link))
    except UserError as error:
        say(error)
        yield ""


def _dataset(page: Page, item: Adapter) -> str:
    """Name of the user's own set that a run was trained on; "" for pictures from elsewhere."""
    if item.run is None:
        return ""
    try:
        folder = Path(item.run.config().dataset.path)
    except UserError:
        return ""
    return folder.name if folder.parent == page.home / "datasets" else ""


def report(path: str) -> Iterator[str]:
    """HTML: what is in a file, and what other programs do with it; "" for none."""
    try:
        stamp = Path(path).stat() if path else None
    except OSError:
        stamp = None  # gone meanwhile
    if stamp is None:
        yield ""
        return
    yield LOOKING
    yield _report(Path(path), stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(KEPT)
def _report(path: Path, changed: int, size: int) -> str:
    try:
        seen = inspect(path)
        return _facts(seen.as_dict()) + conformance.table(path, seen.hash)
    except UserError as error:
        return f'<div class="note">{html.escape(str(error))}</div>'


def _facts(facts: Mapping[str, Any]) -> str:
    """HTML: a table of what the file says about itself."""
    counts = (
        (facts["unet_modules"], "UNet"),
        (facts["text_encoder_modules"], "text encoder"),
        (facts["text_encoder_2_modules"], "second text encoder"),
        (facts["other_modules"], "other"),
    )
    rows = [
        ("method", facts["method"]),
        ("rank", ", ".join(map(str, facts["ranks"]))),
        ("factor", ", ".join(map(str, facts["factors"]))),
        ("alpha", ", ".join(f"{value:g}" for value in facts["alphas"])),
        ("changes", ", ".join(f"{count} {kind} layers" for count, kind in counts if count)),
        ("fits", " ".join(facts["fit"])),
        ("numbers", ", ".join(facts["dtypes"])),
        ("tensor names", facts["format"]),
        ("hash (AutoV3)", facts["hash"][:12]),
        ("note", " ".join(facts["notes"])),
    ]
    rows = [(key, value) for key, value in rows if value]
    listed = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in rows)
    return f'<div class="facts"><h3>In the file</h3><table>{listed}</table></div>'
