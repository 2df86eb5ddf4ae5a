"""The doctor's panel: what would make the set train badly, the pictures, and one click to put it right."""

import html
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from app.tabs.dataset.background import beside
from app.tabs.dataset.crops import EYES
from app.tabs.dataset.desk import Desk, news
from app.tabs.dataset.editor import find
from app.views import grid, sets
from app.views.page import kindly, quiet, say
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


@dataclass
class Visit:
    """An examination that is shown, and what was done since."""

    folder: Path
    findings: Findings
    done: dict[int, str] = field(default_factory=dict)


_visits: OrderedDict[str, Visit] = OrderedDict()
_numbers = itertools.count(1)


def build(desk: Desk, eye: gr.Dropdown, opened: gr.Textbox) -> None:
    """Lay out the panel.

    Args:
        desk: what the tab shares.
        eye: kind of base that the set is meant for.
        opened: takes the id of a picture that is to be opened.
    """
    with gr.Accordion("Check the set", open=False, elem_id="dataset-doctor"):
        check = gr.Button("Check the set", size="md", elem_id="doctor-check")
        cards = gr.HTML("", elem_id="doctor-cards", js_on_load=SCRIPT, apply_default_css=False)

    def look(path: str, kind: str) -> Iterator[str]:
        yield from _examine(path, kind)

    def treat(event: gr.EventData) -> tuple[str, str]:
        number = str(event.visit)
        _treat(desk, number, int(event.finding), int(event.fix), str(event.picture))
        return cards_html(number), news()

    def show(event: gr.EventData) -> str:
        return str(event.id)

    check.click(
        look, [desk.page.dataset, eye], cards, show_progress="hidden", api_visibility="private", concurrency_limit=1
    )
    cards.treat(kindly(treat), None, [cards, desk.changed], **quiet())
    cards.show(show, None, opened, **quiet())
    desk.page.dataset.change(lambda: "", None, cards, **quiet())


def _examine(path: str, kind: str) -> Iterator[str]:
    if not path:
        return
    options = Options(resolution=EYES[kind].resolution)
    try:
        for told in beside(lambda tell: examine(Path(path), options, tell)):
            if isinstance(told, Findings):
                yield cards_html(_remember(Visit(Path(path), told)))
            else:
                done, total = told
                yield f'<div class="report"><progress value="{done}" max="{total or 1}"></progress> looking</div>'
    except UserError as error:
        say(error)
        yield ""


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
        visit.done[which] = finding.fixes[fix].label


def cards_html(number: str) -> str:
    """HTML: what was found, the worst first; nothing of it is known any more where the number is old."""
    visit = _visits[number]
    album, found = sets.album(visit.folder), visit.findings
    left = f", {found.excluded} left out" if found.excluded else ""
    head = f"<b>{sets.count(found.pictures, 'picture')}</b> can be trained on{left}."
    cards = "".join(_card_html(visit, album, number, which) for which in range(len(found.findings)))
    return f'<div class="report">{head}{"" if cards else " Nothing is wrong with them."}</div>{cards}'


def _card_html(visit: Visit, album: Album, number: str, which: int) -> str:
    finding = visit.findings.findings[which]
    aim = f'data-visit="{number}" data-finding="{which}"'
    if which in visit.done:
        buttons = f'<span class="done">✓ {html.escape(visit.done[which])}</span>'
    else:
        buttons = "".join(
            f'<button {aim} data-fix="{place}">{html.escape(fix.label)}</button>'
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
