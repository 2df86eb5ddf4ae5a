"""Choosing a set, making one, bringing pictures in: files, folders with their tree, zips, places on this machine."""

import html
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import gradio as gr

from app import owners
from app.jobs import captioning
from app.tabs.dataset.background import Beside
from app.tabs.dataset.desk import Desk, news
from app.views import pictures, sets, uploads
from app.views.page import Page, kindly, quiet
from trainer.contract.errors import UserError
from trainer.pictures.album import locate
from trainer.pictures.importing import Duplicate, ImportOptions, ImportReport, import_pictures
from trainer.pictures.newcomers import at_work, make_for_import
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

LISTED = 1_000  # files that are named at most where many have the same fault
RECENT = 600.0  # seconds for which a page that is loaded again shows what came of an import

Tell = Callable[[int, int], None]
Work = Callable[[Path, Tell], ImportReport]


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
    ends = [
        button.click(kindly(partial(_open_sample, page.home, key)), None, chosen, **quiet()).success(
            lambda key=key: (yield from _use_sample(page.home, key)), None, shown[1:], **busy
        )
        for key, button in samples.items()
    ]

    def sent(event: gr.EventData, opened: str) -> Iterator[Any]:
        yield from _import_upload(page.home, str(event.token), opened)

    def from_place(text: str, way: str, into: str) -> Iterator[Any]:
        yield from _import_place(page.home, text, way == "leave", into)

    ends += [
        drop.sent(sent, page.dataset, shown, trigger_mode="multiple", **busy),  # one may be sent while another is read
        add.click(from_place, [place, how, page.dataset], shown, **busy),
    ]  # fmt: skip
    for end in ends:
        end.then(partial(_still_there, page.home), chosen, chosen, **quiet())
    # No more answers than this one for the choice while a page loads: see `_open_sample`, pictures may be sent already.
    page.blocks.load(lambda: _opened(page.home), None, chosen, **quiet()).then(
        lambda: (yield from _again(page.home)), None, shown[1:], **quiet()
    )


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


def _opened(home: Path) -> Any:
    """The set that a page opens with. Where there is none, one may be on its way already, which stays chosen."""
    first = _first_shown(home)
    return _chosen(home, first) if first else gr.skip()


def _first_shown(home: Path) -> Path | None:
    """The set that a page opens with: one that a model is at work on, else the one that was changed last."""
    going = captioning.running(home)
    return going if going and owners.visible(going) else next(iter(sets.own(home)), None)


def _listed(home: Path) -> list[tuple[str, str]]:
    return [(path.name, str(path)) for path in sets.own(home)]


def _import_upload(home: Path, token: str, opened: str) -> Iterator[Any]:
    """Import what was sent into the set that was open when it was begun, or into a new one where none was."""
    try:
        into = uploads.destination(home, token)
    except UserError as error:
        yield gr.skip(), _fault_html(error), gr.skip()
        return

    def work(target: Path, tell: Tell) -> ImportReport:
        try:
            tree = uploads.arrived(home, token)
            return _as_sent(import_pictures(sorted(tree.iterdir()), target, on_progress=tell), tree)
        finally:
            uploads.end(home, token)

    yield from _run(home, into, work, choose=not opened)


def _import_place(home: Path, text: str, leave: bool, into: str) -> Iterator[Any]:
    source = Path(text.strip()).expanduser()

    def work(target: Path, tell: Tell) -> ImportReport:
        return import_pictures([source], target, options=ImportOptions(reference=leave), on_progress=tell)

    if text.strip():
        yield from _run(home, Path(into) if into else None, work, choose=not into)
    else:
        error = UserError("no folder is named", "Folder, picture or zip", "Type where the pictures lie.")
        yield gr.skip(), _fault_html(error), gr.skip()


def _as_sent(report: ImportReport, tree: Path) -> ImportReport:
    """A report in the sender's names: where the files lay meanwhile is nothing to people."""

    def told(text: str) -> str:
        return unquote(text.replace(f"{tree}/", "").replace(str(tree), "what was sent"))

    return replace(
        report, duplicates=tuple(Duplicate(*map(told, one)) for one in report.duplicates),
        rejected=tuple(Rejected(*map(told, one)) for one in report.rejected), notes=tuple(map(told, report.notes)),
    )  # fmt: skip


def _open_sample(home: Path, key: str) -> gr.Dropdown:
    """Choose the user's copy of a sample set, made where there is none; its pictures come by `_use_sample`.

    That is an event of its own: Gradio 6.31 reads what stands in a component for every answer that brings no value of
    it, and puts that back; where answers come close together it takes away what one before has just put there.
    """
    target = sets.sample_copy(home, key)
    if not target.exists() and make_for_import(target):
        owners.sign(target)
    sets.check_own(home, target)
    return _chosen(home, target)


def _use_sample(home: Path, key: str) -> Iterator[Any]:
    """Copy a sample set among the user's own, once: the copy may be edited. Yields report and word of a change."""
    target = sets.sample_copy(home, key)
    if target.is_dir() and sets.has_pictures(str(target)):
        yield "", news()
        return

    def work(target: Path, tell: Tell) -> ImportReport:
        source = sets.sample_folders().get(key)
        if source is None:
            fix = "Install the program again."
            raise UserError(f"the sample pictures '{key}' did not come along", "presets/demo", fix)
        return import_pictures([source], target, on_progress=tell)

    try:
        going = _begin(home, target, work)
    except UserError as error:
        yield _fault_html(error), gr.skip()
        return
    yield from _follow(going)


class _Going(NamedTuple):
    """An import that a page of this server has begun."""

    home: Path
    target: Path
    work: Beside[ImportReport]


_goings: list[_Going] = []


def _run(home: Path, into: Path | None, work: Work, choose: bool) -> Iterator[Any]:
    """Begin an import and tell how far it is, after the set that it goes into where that is to be chosen.

    The set is opened at once or not at all: at the end somebody may be at work on another one.
    """
    try:
        going = _begin(home, into, work)
    except UserError as error:
        yield gr.skip(), _fault_html(error), gr.skip()
        return
    if choose:
        yield _chosen(home, going.target), gr.skip(), gr.skip()
    for told in _follow(going):
        yield gr.skip(), *told


def _begin(home: Path, into: Path | None, work: Work) -> _Going:
    """Import beside the page, into a new set where none is given; it goes on to its end if the page is closed.

    Raises:
        UserError: the set may not be changed, or not be made.
    """
    target = into or sets.create_for_import(home)
    sets.check_own(home, target)
    prepare = partial(_prepare, home, target)
    prepare()

    def inside(tell: Tell) -> ImportReport:
        with at_work(target, prepare):  # around all of it: also what fails before there is a picture leaves no set
            return work(target, tell)

    going = _Going(home, target, Beside(inside))
    _goings[:] = [one for one in _goings if one.work.age() < RECENT] + [going]
    return going


def _prepare(home: Path, target: Path) -> None:
    if not make_for_import(target):
        sets.editable(home, target)


def _follow(going: _Going) -> Iterator[Any]:
    """Tell how far an import is, and what came of it: report and word of a change."""
    target = going.target
    try:
        for told in going.work.follow():
            if isinstance(told, ImportReport):
                yield report_html(told, target.name), _news_of(target)
            else:
                yield _progress(target.name, *told), gr.skip()
    except UserError as error:
        yield _fault_html(error), gr.skip()


def _again(home: Path) -> Iterator[Any]:
    """Show a page that was loaded again what goes on, or what came of what has just ended."""
    yield gr.skip(), gr.skip()  # Gradio empties what an event is to fill and says nothing of
    for going in [one for one in _goings if one.home == home and one.work.age() < RECENT]:
        if owners.visible(going.target):
            yield from _follow(going)


def _news_of(target: Path) -> Any:
    """Word of a change, unless nothing came into a new set and it is gone."""
    return news() if target.is_dir() else gr.skip()


def _still_there(home: Path, path: str | None) -> Any:
    """Another set in the place of one into which nothing came."""
    return gr.skip() if not path or Path(path).is_dir() else _chosen(home, _first_shown(home))


def _progress(name: str, done: int, total: int) -> str:
    share = f"{done} of {sets.count(total, 'picture')}" if total else "looking at what came"
    bar = f'<progress value="{done}" max="{total or 1}"></progress>'
    return f'<div class="report">{bar} {html.escape(name)}: {share}</div>'


def _fault_html(error: UserError) -> str:
    said = "<br>".join(html.escape(line) for line in str(error).splitlines() if line)
    return f'<div class="report wrong"><b>Nothing was added.</b><br>{said}</div>'


def report_html(report: ImportReport, name: str) -> str:
    """HTML: what became of each picture that was to go into a set; why, where one opens a line."""
    counts = {"added": report.accepted, "there already": report.duplicates, "not usable": report.rejected}
    said = " · ".join(f"<b>{len(ones)}</b> {what}" for what, ones in counts.items() if ones or what == "added")
    reasons: dict[str, list[str]] = {}
    for source, reason in report.rejected:
        reasons.setdefault(reason, []).append(source)
    lines = [
        _line(f"{sources[0]}: {reason}" if len(sources) == 1 else f"{len(sources)} times: {reason}", sources)
        for reason, sources in reasons.items()
    ]
    twins = [f"{one.source} is the same as {one.same_as}" for one in report.duplicates]
    lines += [_line(twins[0] if len(twins) == 1 else f"{len(twins)} are there already", twins)] if twins else []
    lines += map(_item, report.notes)
    listed = f"<ul>{''.join(lines)}</ul>" if lines else ""
    return f'<div class="report">{html.escape(name)}: {said}{listed}</div>'


def _item(text: str) -> str:
    return f"<li>{html.escape(text)}</li>"


def _line(head: str, items: list[str]) -> str:
    """What is said of some files, which are listed where one opens it; of a single one it says all itself."""
    if len(items) == 1:
        return _item(head)
    more = [f"and {len(items) - LISTED} more"] if len(items) > LISTED else []
    inside = "".join(map(_item, items[:LISTED] + more))
    return f"<li><details><summary>{html.escape(head)}</summary><ul>{inside}</ul></details></li>"
