"""The doctor's panel: what would make the set train badly, the pictures, and one click to put it right."""

import html
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.tabs.dataset.background import beside
from app.tabs.dataset.desk import Desk, news
from app.tabs.dataset.editor import find
from app.views import grid, sets
from app.views.eyes import eye_of
from app.views.page import in_turn, kindly, quiet, say
from trainer.contract.errors import UserError
from trainer.pictures import remedies
from trainer.pictures.album import Album
from trainer.pictures.doctor import apply, examine
from trainer.pictures.findings import Finding, Findings, Options

SHOWN = 12  # pictures of a finding
KEPT = 8  # examinations that can still be acted on
SCRIPT = """element.addEventListener("click", event => {
    const act = event.target.closest("[data-finding]");
    if (act) return trigger("treat", { visit: act.dataset.visit, finding: Number(act.dataset.finding),
        fix: Number(act.dataset.fix), picture: act.dataset.out || "" });
    const tile = event.target.closest("[data-id]");
    if (tile) trigger("show", { id: tile.dataset.id });
});"""


class Visit(NamedTuple):
    """An examination that is shown."""

    folder: Path
    findings: Findings


_visits: OrderedDict[str, Visit] = OrderedDict()
_numbers = itertools.count(1)


def build(desk: Desk, eye: gr.Dropdown) -> None:
    """Lay out the panel; `eye` is the kind of base that the set is meant for."""
    with gr.Accordion("Check the set", open=False, elem_id="dataset-doctor"):
        check = gr.Button("Look at every picture and caption", size="md", elem_id="doctor-check")
        told = gr.HTML("", elem_id="doctor-told", apply_default_css=False)
        cards = gr.HTML("", elem_id="doctor-cards", js_on_load=SCRIPT, apply_default_css=False)

    def treat(event: gr.EventData) -> str:
        _treat(desk, str(event.visit), int(event.finding), int(event.fix), str(event.picture))
        return news()

    def show(event: gr.EventData) -> str:
        return str(event.id)

    check.click(
        _examine, [desk.page.dataset, eye], [told, desk.visit], show_progress="hidden", api_visibility="private",
        concurrency_limit=1,
    )  # fmt: skip
    gr.on([desk.visit.change, desk.changed.change], cards_html, desk.visit, cards, **in_turn("doctor"))
    cards.treat(kindly(treat), None, desk.changed, **quiet())
    cards.show(show, None, desk.wanted, **quiet())
    desk.page.dataset.change(lambda: "", None, desk.visit, **quiet())


def _examine(path: str, kind: str) -> Iterator[tuple[Any, Any]]:
    if not path:
        return
    options = Options(resolution=max(eye_of(kind).resolutions))
    try:
        for told in beside(lambda tell: examine(Path(path), options, tell)):
            if isinstance(told, Findings):
                yield "", _remember(Visit(Path(path), told))
            else:
                done, total = told
                bar = f'<progress value="{done}" max="{total or 1}"></progress>'
                yield f'<div class="report">{bar} {done} of {sets.count(total, "picture")}</div>', gr.skip()
    except UserError as error:
        say(error)
        yield "", gr.skip()


def _remember(visit: Visit) -> str:
    number = str(next(_numbers))
    _visits[number] = visit
    while len(_visits) > KEPT:
        _visits.popitem(last=False)
    return number


def _treat(desk: Desk, number: str, which: int, fix: int, picture: str) -> None:
    """Apply a fix, or leave one picture out. Raises UserError where what was found is not known any more."""
    visit = _visits.get(number)
    if visit is None or not 0 <= which < len(visit.findings.findings):
        raise UserError("what was found is not known any more", "Check the set", "Check it again.")
    folder = desk.own(str(visit.folder))
    finding = visit.findings.findings[which]
    if picture:
        entry = find(sets.album(folder), picture)
        apply(folder, remedies.leave_out(f"leave out {entry.name if entry else 'a picture'}", [picture]))
    elif 0 <= fix < len(finding.fixes):
        apply(folder, finding.fixes[fix])


def cards_html(number: str) -> str:
    """HTML: what was found, the worst first, as the set is now; nothing where it is not known any more."""
    visit = _visits.get(number)
    if visit is None or not visit.folder.is_dir():
        return ""
    album, found = sets.album(visit.folder), visit.findings
    left = f", {found.excluded} left out" if found.excluded else ""
    head = f"<b>{sets.count(found.pictures, 'picture')}</b> can be trained on{left}."
    cards = "".join(_card_html(visit, album, number, which) for which in range(len(found.findings)))
    return f'<div class="report">{head}{"" if cards else " Nothing is wrong with them."}</div>{cards}'


def _card_html(visit: Visit, album: Album, number: str, which: int) -> str:
    finding = visit.findings.findings[which]
    aim = f'data-visit="{number}" data-finding="{which}"'
    buttons = "".join(
        f'<span class="done">✓ {html.escape(fix.label)}</span>'
        if fix.how(album) == album  # done already, or there is nothing left of it; taken back, it can be done again
        else f'<button {aim} data-fix="{place}">{html.escape(fix.label)}</button>'
        for place, fix in enumerate(finding.fixes)
    )
    count = f" · {sets.count(len(finding.ids), 'picture')}" if finding.ids else ""
    about = f"<p>{html.escape(finding.about)}</p>" if finding.about else ""
    return (
        f'<section class="finding" data-kind="{finding.kind}" data-severity="{finding.severity}">'
        f"<h4>{html.escape(finding.title)}{count}</h4><p>{html.escape(finding.why)}</p>{about}"
        f'<div class="found">{_pictures_html(visit.folder, album, finding, aim)}</div>'
        f'<div class="fixes">{buttons}</div></section>'
    )


def _pictures_html(folder: Path, album: Album, finding: Finding, aim: str) -> str:
    """HTML: the pictures of a finding, those that belong together side by side, each with a way to leave it out."""
    entries = {entry.id: entry for entry in album.entries}
    order = list(dict.fromkeys([*itertools.chain.from_iterable(finding.groups), *finding.ids]))
    tiles = []
    for key in order[:SHOWN]:
        if (entry := entries.get(key)) is None:
            continue
        out = "" if entry.excluded else f'<button {aim} data-fix="-1" data-out="{key}" title="Leave it out">×</button>'
        tiles.append(
            f'<figure class="{"out" if entry.excluded else ""}" data-id="{key}" title="{html.escape(entry.name)}">'
            f'<img src="{grid.source(folder, entry)}" loading="lazy" alt="{html.escape(entry.name)}">{out}'
            f"<figcaption>{html.escape(finding.value.get(key, entry.name))}</figcaption></figure>"
        )
    more = f'<span class="more">and {len(order) - SHOWN} more</span>' if len(order) > SHOWN else ""
    return "".join(tiles) + more
