"""Choosing a set, making one, bringing pictures in: files, folders with their tree, zips, places on this machine."""

import html
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr

from app.jobs import captioning
from app.tabs.dataset.background import beside
from app.tabs.dataset.desk import Desk, news
from app.views import pictures, sets, uploads
from app.views.page import Page, kindly, quiet, say
from trainer.contract.errors import UserError
from trainer.pictures.album import create_album, locate
from trainer.pictures.importing import Duplicate, ImportOptions, ImportReport, import_pictures
from trainer.pictures.shelves import Rejected

SCRIPT = Path(__file__).with_name("drop.js").read_text("utf-8")
SAMPLES = {"style": "A style", "subject": "A subject"}
DROP = """<div class="drop"><b>Drop pictures, folders or zips here</b>
<span>captions as .txt beside the pictures, metadata.jsonl or captions.csv come along; folders stay what they are</span>
<div class="ways"><button>Choose files</button><input type="file" multiple hidden>
<button>Choose a folder</button><input type="file" webkitdirectory multiple hidden></div>
<div class="sending" hidden><progress value="0" max="1"></progress>
<span role="status"></span><button>Cancel</button></div>
<span class="queued" role="status"></span></div>"""

Work = Callable[[Callable[[int, int], None]], ImportReport]


def build(desk: Desk) -> None:
    """Lay out the head of the tab."""
    page = desk.page
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=320):
            chosen, name, create, samples = _choose(page)
        with gr.Column(scale=6, min_width=320):
            drop = gr.HTML(DROP, elem_id="dataset-upload", js_on_load=SCRIPT, apply_default_css=False)
            with gr.Accordion("Or a folder on this machine", open=False, elem_id="dataset-place-box"):
                place, how, add = _place()
    report = gr.HTML(elem_id="dataset-report")
    shown = [chosen, report, desk.changed]
    chosen.change(lambda path: path or "", chosen, page.dataset, **quiet())
    chosen.input(lambda: "", None, report, **quiet())
    create.click(
        kindly(lambda text: (_chosen(page.home, sets.create(page.home, text)), "", "")), name, [chosen, name, report],
        **quiet(),
    )  # fmt: skip
    busy: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 2}
    for key, button in samples.items():
        button.click(lambda key=key: (yield from _use_sample(page.home, key)), None, shown, **busy)

    def sent(event: gr.EventData, opened: str) -> Iterator[Any]:
        yield from _import_upload(page.home, str(event.token), opened)

    def from_place(text: str, way: str, into: str) -> Iterator[Any]:
        yield from _import_place(page.home, text, way == "leave", into)

    drop.sent(sent, page.dataset, shown, trigger_mode="multiple", **busy)  # one may be sent while another is read
    add.click(from_place, [place, how, page.dataset], shown, **busy)
    page.blocks.load(lambda: _chosen(page.home, _first_shown(page.home)), None, chosen, **quiet())


def _choose(page: Page) -> tuple[gr.Dropdown, gr.Textbox, gr.Button, dict[str, gr.Button]]:
    chosen = gr.Dropdown([], label="Set of pictures", elem_id="dataset-set", info="Each set is a folder on your disk.")
    with gr.Row(elem_classes="tight"):
        name = gr.Textbox(
            show_label=False, placeholder="name of a new set", elem_id="dataset-name", container=False, scale=3
        )
        create = gr.Button("New set", elem_id="dataset-create", min_width=110, scale=1, size="md")
    gr.HTML('<div class="hint">Or begin with the sample pictures of</div>')
    with gr.Row(elem_classes="tight"):
        samples = {
            key: gr.Button(title, icon=_first(page, key), elem_id=f"dataset-sample-{key}", min_width=140)
            for key, title in SAMPLES.items()
        }
    return chosen, name, create, samples


def _place() -> tuple[gr.Textbox, gr.Radio, gr.Button]:
    place = gr.Textbox(label="Folder, picture or zip", placeholder="/home/me/pictures", elem_id="dataset-place")
    how = gr.Radio([("copy into the set", "copy"), ("leave where they are", "leave")], value="copy",
                   show_label=False, container=False, elem_id="dataset-place-how")  # fmt: skip
    return place, how, gr.Button("Add", size="md", elem_id="dataset-place-add")


def _first(page: Page, key: str) -> str | None:
    """A picture of a sample set, for its button."""
    folder = sets.sample_folders().get(key)
    first = next(iter(sets.album(folder).entries), None) if folder else None
    return pictures.copy(page.home, locate(folder, first.file)) if folder and first else None


def _chosen(home: Path, path: Path | None) -> gr.Dropdown:
    return gr.Dropdown(_listed(home), value=str(path) if path else None)


def _first_shown(home: Path) -> Path | None:
    """The set that a page opens with: one that a model is at work on, else the one that was changed last."""
    return captioning.running(home) or next(iter(sets.own(home)), None)


def _listed(home: Path) -> list[tuple[str, str]]:
    return [(path.name, str(path)) for path in sets.own(home)]


def _import_upload(home: Path, token: str, opened: str) -> Iterator[Any]:
    """Import what was sent into the set that was open when it was begun, or into a new one where none was."""
    try:
        into = uploads.destination(home, token)
    except UserError as error:
        say(error)
        yield gr.skip(), "", gr.skip()
        return

    def work(target: Path) -> Work:
        def run(tell: Callable[[int, int], None]) -> ImportReport:
            try:
                tree = uploads.arrived(home, token)
                return _as_sent(import_pictures(sorted(tree.iterdir()), target, on_progress=tell), tree)
            finally:
                uploads.end(home, token)

        return run

    yield from _run(home, str(into or ""), work, choose=not opened)


def _import_place(home: Path, text: str, leave: bool, into: str) -> Iterator[Any]:
    def work(target: Path) -> Work:
        if not text.strip():
            raise UserError("no folder is named", "Folder, picture or zip", "Type where the pictures lie.")
        source = Path(text.strip()).expanduser()
        return lambda tell: import_pictures([source], target, options=ImportOptions(reference=leave), on_progress=tell)

    yield from _run(home, into, work, choose=not into)


def _as_sent(report: ImportReport, tree: Path) -> ImportReport:
    """A report in the sender's names: where the files lay meanwhile is nothing to people."""

    def told(text: str) -> str:
        return unquote(text.replace(f"{tree}/", "").replace(str(tree), "what was sent"))

    return replace(
        report, duplicates=tuple(Duplicate(*map(told, one)) for one in report.duplicates),
        rejected=tuple(Rejected(*map(told, one)) for one in report.rejected), notes=tuple(map(told, report.notes)),
    )  # fmt: skip


def _use_sample(home: Path, key: str) -> Iterator[Any]:
    """Copy a sample set among the user's own, once: the copy may be edited."""
    target = home / "datasets" / f"sample-{key}"
    if target.is_dir() and sets.has_pictures(str(target)):
        yield _chosen(home, target), "", news()
        return

    def work(target: Path) -> Work:
        source = sets.sample_folders().get(key)
        if source is None:
            fix = "Install the program again."
            raise UserError(f"the sample pictures '{key}' did not come along", "presets/demo", fix)
        return lambda tell: import_pictures([source], target, on_progress=tell)

    yield from _run(home, str(target), work, choose=True)


def _run(home: Path, into: str, work: Callable[[Path], Work], choose: bool) -> Iterator[Any]:
    """Import beside the page and tell how far it is; it goes on to its end if the page is closed.

    The set is opened at once or not at all: at the end somebody may be at work on another one.
    """
    try:
        target = Path(into) if into else sets.create(home, "")
        sets.check_own(home, target)
        run = work(target)
        if choose:
            sets.editable(home, target) if target.is_dir() else create_album(target)
            yield _chosen(home, target), gr.skip(), gr.skip()
        for told in beside(run):
            if isinstance(told, ImportReport):
                yield gr.Dropdown(_listed(home)), report_html(told, target.name), news()
            else:
                yield gr.skip(), _progress(target.name, *told), gr.skip()
    except UserError as error:
        say(error)
        yield gr.skip(), "", gr.skip()


def _progress(name: str, done: int, total: int) -> str:
    share = f"{done} of {sets.count(total, 'picture')}" if total else "looking at what came"
    bar = f'<progress value="{done}" max="{total or 1}"></progress>'
    return f'<div class="report">{bar} {html.escape(name)}: {share}</div>'


def report_html(report: ImportReport, name: str) -> str:
    """HTML: what became of each picture that was to go into a set."""
    parts = [f"<b>{len(report.accepted)}</b> added"]
    parts += [f"<b>{len(report.duplicates)}</b> there already"] if report.duplicates else []
    parts += [f"<b>{len(report.rejected)}</b> not usable"] if report.rejected else []
    reasons = [f"{item.source}: {item.reason}" for item in report.rejected] + list(report.notes)
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in reasons[:20])
    more = f"<li>and {len(reasons) - 20} more</li>" if len(reasons) > 20 else ""
    said = f"{html.escape(name)}: {' · '.join(parts)}"
    return f'<div class="report">{said}{f"<ul>{listed}{more}</ul>" if listed else ""}</div>'
