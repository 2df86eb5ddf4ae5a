"""Tiles, the open picture, its captions: the keyboard goes from one to the next, and what was typed is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.tabs.dataset import crops
from app.tabs.dataset.desk import Desk, Words, look, news
from app.views import grid, sets
from app.views.page import in_turn, kindly, quiet
from trainer.pictures.album import Album, Entry, change, edit
from trainer.pictures.tags import set_captions

SCRIPT = Path(__file__).with_name("editor.js").read_text("utf-8")
KEYS = (
    '<div class="hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd> save and next · <kbd>Alt</kbd> <kbd>↓</kbd> <kbd>↑</kbd> next, '
    "previous · what you typed is kept when you leave · <kbd>Ctrl</kbd> or <kbd>Shift</kbd> click selects several</div>"
)


def build(desk: Desk) -> tuple[Words, gr.Dropdown]:
    """Lay out tiles and editor; returns the filter, and the kind of base whose view is shown."""
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=6, min_width=320):
            words, tiles, marks = _tiles()
        with gr.Column(scale=4, min_width=320):
            part = _Editor(desk)
    gr.HTML(KEYS)
    _wire_tiles(desk, words, tiles)
    _wire_editor(desk, words, tiles, marks, part)
    _wire_actions(desk, part)
    return words, part.eye


def _tiles() -> tuple[Words, gr.HTML, gr.HTML]:
    with gr.Row(elem_classes="tight"):
        text = gr.Textbox(placeholder="filter: name or caption; tag:red hair for a whole tag", container=False,
                          show_label=False, elem_id="dataset-filter", scale=3, min_width=180)  # fmt: skip
        kind = gr.Dropdown(grid.kinds(Album()), value="all", container=False, show_label=False, min_width=150,
                           elem_id="dataset-kind", scale=2)  # fmt: skip
    tiles = gr.HTML("", elem_id="dataset-grid", js_on_load=SCRIPT, apply_default_css=False)
    return Words(text, kind), tiles, gr.HTML("", elem_id="dataset-marks", apply_default_css=False)


class _Now(NamedTuple):
    """What stood in the page when something was done."""

    path: str
    picture: str
    text: str
    before: str
    wanted: str
    kind: str
    chosen: str
    eye: str

    def look(self) -> tuple[Album, list[Entry]]:
        return look(self.path, self.wanted, self.kind)

    def keep(self, desk: Desk) -> Any:
        """Save what was typed; returns what is to be said in `Desk.changed`."""
        saved = save_caption(desk, self.path, self.picture, self.text, self.before)
        return news() if saved else gr.skip()


class _Editor:
    """The components of the open picture."""

    def __init__(self, desk: Desk) -> None:
        self.stage = gr.HTML("", elem_id="dataset-stage", js_on_load=crops.SCRIPT, apply_default_css=False)
        with gr.Row(elem_classes="tight"):
            self.eye = crops.choose_eye(desk)
            self.unfocus = gr.Button("Clear focus point", size="md", elem_id="dataset-unfocus", min_width=140)
        self.caption = gr.Textbox(label="Caption", lines=3, max_lines=8, elem_id="dataset-caption",
                                  info="What it shows, not what all are to teach. Several: a line each.")  # fmt: skip
        with gr.Row(elem_classes="tight"):
            self.previous = gr.Button("‹", size="md", elem_id="dataset-previous", min_width=40, scale=1)
            self.save = gr.Button(
                "Save and next", variant="primary", size="md", elem_id="dataset-save", min_width=120, scale=4
            )
            self.next = gr.Button("›", size="md", elem_id="dataset-next", min_width=40, scale=1)
        with gr.Row(elem_classes="tight"):
            self.out = gr.Button("Leave out", size="md", elem_id="dataset-out", min_width=100)
            self.remove = gr.Button("Delete", size="md", elem_id="dataset-delete", min_width=100)


def _wire_tiles(desk: Desk, words: Words, tiles: gr.HTML) -> None:
    inputs = [desk.page.dataset, words.text, words.kind, desk.number]

    def draw(path: str, text: str, kind: str, number: str) -> str:
        album, found = look(path, text, kind)
        place = min(int(number or 0), grid.last_page(found))
        return grid.grid_html(Path(path), found, len(album.entries), place) if path else ""

    def kinds(path: str, kind: str) -> gr.Dropdown:
        choices = grid.kinds(look(path, "", "all")[0])
        return gr.Dropdown(choices, value=kind if kind in dict(map(reversed, choices)) else "all")  # type: ignore[arg-type]

    def turned(event: gr.EventData) -> str:
        return str(int(event.page))

    news: list[Any] = [desk.page.dataset, desk.changed, desk.number, words.text, words.kind]
    gr.on([one.change for one in news], kindly(draw), inputs, tiles, **in_turn("dataset-tiles"))
    desk.follow(kinds, [desk.page.dataset, words.kind], words.kind)
    desk.page.dataset.change(lambda: ("0", ""), None, [desk.number, desk.chosen], **quiet())
    gr.on([words.text.change, words.kind.change], lambda: "0", None, desk.number, **quiet())
    tiles.turn(turned, None, desk.number, **quiet())


def _wire_editor(desk: Desk, words: Words, tiles: gr.HTML, marks: gr.HTML, part: _Editor) -> None:
    typed = [desk.page.dataset, desk.picture, part.caption, desk.before]
    shown = [desk.picture, part.stage, part.caption, desk.before, part.out, part.remove, marks]

    def keep(path: str, picture: str, text: str, before: str) -> Any:
        saved = save_caption(desk, path, picture, text, before)
        return (text, news()) if saved else (gr.skip(), gr.skip())

    def again(path: str, picture: str, text: str, before: str, chosen: str, eye: str, stage: str) -> Any:
        """After a change from elsewhere. What is being typed stays, also what is typed while this is on its way."""
        values = opened(path, picture, chosen, eye)
        if not chosen and values[1] == stage and values[3] == before:
            return [gr.skip()] * len(values)  # nothing of it is new: the next picture may be on its way already
        stays = values[0] == picture and (text != before or values[3] == before)
        return (*values[:2], gr.skip(), gr.skip(), *values[4:]) if stays else values

    part.caption.blur(kindly(keep), typed, [desk.before, desk.changed], **quiet(trigger_mode="multiple"))
    shows = [*typed, desk.chosen, part.eye, part.stage]
    desk.follow(again, shows, shown, trigger_mode="always_last")
    part.eye.input(kindly(again), shows, shown, **quiet())
    crops.wire_focus(desk, part.stage, part.unfocus)
    _wire_moves(desk, tiles, part, [*typed, words.text, words.kind, desk.chosen, part.eye], shown)


def _wire_moves(desk: Desk, tiles: gr.HTML, part: _Editor, now: list[Any], shown: list[Any]) -> None:
    """From one picture to another: what was typed is kept first."""

    def step(by: int) -> Callable[..., Any]:
        def go(*values: str) -> Any:
            now = _Now(*values)
            _, found = now.look()  # before it is saved: a picture that gets its caption leaves "without a caption"
            following, stamp = grid.neighbour(found, now.picture, by), now.keep(desk)
            number = grid.page_of(now.look()[1], following)
            turned = gr.skip() if number is None else str(number)
            return stamp, turned, *opened(now.path, following, now.chosen, now.eye)

        return go

    def pick(event: gr.EventData, *values: str) -> Any:
        now = _Now(*values)
        ids = " ".join(_selected(event, now.look()[1], now.picture, now.chosen))
        return now.keep(desk), ids, *opened(now.path, event.id, ids, now.eye)

    def open_wanted(*values: str) -> Any:
        *stood, wanted = values
        if not wanted:
            return [gr.skip()] * (2 + len(shown))
        now = _Now(*stood)
        return now.keep(desk), "", *opened(now.path, wanted, now.chosen, now.eye)

    for button, by in ((part.previous, -1), (part.save, 1), (part.next, 1)):
        button.click(kindly(step(by)), now, [desk.changed, desk.number, *shown], **quiet())
    tiles.pick(kindly(pick), now, [desk.changed, desk.chosen, *shown], **quiet(trigger_mode="multiple"))
    desk.wanted.change(kindly(open_wanted), [*now, desk.wanted], [desk.changed, desk.wanted, *shown], **quiet())


def _selected(event: gr.EventData, found: list[Entry], opened: str, chosen: str) -> list[str]:
    """The selection after a click: Ctrl takes one in or out, Shift all from the open one, a plain click ends it."""
    before = chosen.split()
    if event.range:
        return list(dict.fromkeys([*before, *grid.span(found, event.since or opened, event.id)]))
    if not event.add:
        return []
    before = before or ([opened] if opened and opened != event.id else [])
    return [key for key in before if key != event.id] if event.id in before else [*before, event.id]


def save_caption(desk: Desk, path: str, picture: str, text: str, before: str) -> bool:
    """Keep what was typed; returns whether the set has changed. Raises UserError where it cannot be kept."""
    if not path or not picture or text == before:
        return False
    folder, write = desk.own(path), set_captions(text or "")
    entry = find(sets.album(folder), picture)
    if entry is None or write(entry) == entry:
        return False
    edit(folder, f"caption of {entry.name}", [picture], write)
    return True


def find(album: Album, picture: str) -> Entry | None:
    """A picture by its id."""
    return next((entry for entry in album.entries if entry.id == picture), None)


def opened(path: str, picture: str, chosen: str, eye: str) -> tuple[Any, ...]:
    """Values of the editor for a picture; of the first where that one is gone."""
    album = sets.album(Path(path)) if path else Album()
    entry = find(album, picture) or next(iter(album.entries), None)
    ids = [one.id for one in album.entries if one.id in set(chosen.split())]
    if entry is None:
        return "", "", "", "", gr.skip(), gr.skip(), ""
    text = "\n".join(entry.captions)
    meant = [one for one in album.entries if one.id in ids] or [entry]
    some = f" {len(ids)} selected" if ids else ""
    out = ("Take in again" if all(one.excluded for one in meant) else "Leave out") + some
    stage = crops.stage_html(Path(path), entry, eye)
    return entry.id, stage, text, text, gr.Button(out), gr.Button(f"Delete{some}"), grid.marks_html(entry.id, ids)


def _wire_actions(desk: Desk, part: _Editor) -> None:
    meant = [desk.page.dataset, desk.picture, desk.chosen]

    def leave_out(path: str, picture: str, chosen: str) -> str:
        folder, ids = desk.own(path), set(chosen.split() or [picture])
        out = not all(entry.excluded for entry in sets.album(folder).entries if entry.id in ids)
        label = f"{'leave out' if out else 'take in'} {sets.count(len(ids), 'picture')}"
        edit(folder, label, ids, lambda entry: entry.model_copy(update={"excluded": out}))
        return news()

    def remove(path: str, picture: str, chosen: str) -> tuple[str, str]:
        folder, ids = desk.own(path), set(chosen.split() or [picture])

        def without(album: Album) -> Album:
            return album.model_copy(update={"entries": tuple(one for one in album.entries if one.id not in ids)})

        change(folder, f"delete {sets.count(len(ids), 'picture')}", without)
        return news(), ""

    part.out.click(kindly(leave_out), meant, desk.changed, **quiet())
    part.remove.click(kindly(remove), meant, [desk.changed, desk.chosen], **quiet())
