"""Tiles, the open picture, its captions: the keyboard goes from one to the next, and what was typed is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.tabs.dataset import crops
from app.tabs.dataset.desk import Desk, Words, bound, look, news, of
from app.views import grid, sets
from app.views.page import in_turn, kindly, quiet, say
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry, change, edit
from trainer.pictures.captions import fold
from trainer.pictures.tags import set_captions

SCRIPT = Path(__file__).with_name("editor.js").read_text("utf-8")
ARRIVED = "(text, before) => {document.dispatchEvent(new CustomEvent('dataset-arrived', {detail: {text, before}}));}"
WANTED = "id => { if (id) document.dispatchEvent(new Event('dataset-wanted')); }"
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
    told: str
    wanted: str
    kind: str
    chosen: str
    eye: str
    stage: str
    asked: str

    def look(self) -> tuple[Album, list[Entry]]:
        return look(self.path, self.wanted, self.kind)

    def selected(self) -> list[str]:
        return of([self.path], self.chosen).split()

    def keep(self, desk: Desk, *, sure: bool = False) -> Any:
        """Save what was typed, also over what the user was told of; returns what is to be said in `Desk.changed`."""
        told = self.told if sure else ""
        return news() if save_caption(desk, self.path, self.picture, self.text, self.before, told) else gr.skip()


@dataclass
class Overwritten(UserError):
    """Somebody else has changed a caption in the meantime; `now` is what stands there, as `stamp` has it."""

    now: str = ""


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
    shown = [desk.page.dataset, words.text, words.kind]

    def draw(path: str, text: str, kind: str, turned: str) -> str:
        album, found = look(path, text, kind)
        place = min(int(of((path, text, kind), turned) or 0), grid.last_page(found))
        return grid.grid_html(Path(path), found, len(album.entries), place) if path else ""

    def kinds(path: str, kind: str) -> gr.Dropdown:
        choices = grid.kinds(look(path, "", "all")[0])
        return gr.Dropdown(choices, value=kind if kind in dict(map(reversed, choices)) else "all")  # type: ignore[arg-type]

    def turn(event: gr.EventData, *shown: str) -> str:
        return bound(shown, str(int(event.page)))

    news: list[Any] = [*shown, desk.changed, desk.number]
    gr.on([one.change for one in news], kindly(draw), [*shown, desk.number], tiles, **in_turn("dataset-tiles"))
    desk.follow(kinds, [desk.page.dataset, words.kind], [words.kind])
    tiles.turn(turn, shown, desk.number, **quiet())


def _wire_editor(desk: Desk, words: Words, tiles: gr.HTML, marks: gr.HTML, part: _Editor) -> None:
    """All that saves or opens is asked for by the script, one after the other: each is told what the last one left."""
    now = [desk.page.dataset, desk.picture, part.caption, desk.before, desk.told, words.text, words.kind, desk.chosen,
           part.eye, part.stage, desk.wanted]  # fmt: skip
    shown = [desk.picture, part.stage, part.caption, desk.before, part.out, part.remove, marks, desk.meant]
    given, to = [desk.told, desk.changed, desk.number, desk.chosen, desk.wanted, *shown], _Answers(desk, part, shown)
    for listen, answer in ((tiles.keep, to.keep), (tiles.again, to.again), (tiles.step, to.step), (tiles.pick, to.pick),
                           (tiles.see, to.see), (tiles.visit, to.visit)):  # fmt: skip
        done = listen(_candid(answer, desk.told), now, given, **quiet(trigger_mode="multiple"))
        done.then(None, [part.caption, desk.before], None, js=ARRIVED)
    for changes, told in ((desk.page.dataset.change, "changed"), (desk.changed.change, "changed"),
                          (part.eye.change, "seen")):  # fmt: skip
        changes(None, None, None, js=f"() => {{ document.dispatchEvent(new Event('dataset-{told}')); }}")
    desk.wanted.change(None, desk.wanted, None, js=WANTED)
    crops.wire_focus(desk, part.stage, part.unfocus)


@dataclass(frozen=True)
class _Answers:
    """What the script asks for, by its names; each returns what changes in the page.

    Attributes:
        shown: components of the open picture, in the order of `opened`.
    """

    desk: Desk
    part: _Editor
    shown: list[Any]

    def _show(self, now: _Now, picture: str, chosen: str) -> dict[Any, Any]:
        return dict(zip(self.shown, opened(now.path, picture, chosen, now.eye), strict=True))

    def keep(self, event: gr.EventData, now: _Now) -> Any:
        stamp = now.keep(self.desk)
        entry = find(sets.album(Path(now.path)), now.picture) if now.path else None
        return {self.desk.before: entry_stamp(entry), self.desk.changed: stamp} if entry else gr.skip()

    def again(self, event: gr.EventData, now: _Now) -> Any:
        """After a change from elsewhere. What is being typed stays, also what is typed while this is on its way."""
        values, typing = self._show(now, now.picture, now.chosen), (self.part.caption, self.desk.before)
        same = values[self.desk.before] == now.before
        if same and not now.selected() and values[self.part.stage] == now.stage:
            return gr.skip()  # nothing of it is new
        stays = values[self.desk.picture] == now.picture and (same or typed(now.text, now.before))
        return {key: value for key, value in values.items() if not (stays and key in typing)}

    def see(self, event: gr.EventData, now: _Now) -> Any:
        """After a change of what it is seen as: the words stay as they are, also where they are old."""
        stage = self._show(now, now.picture, now.chosen)[self.part.stage]
        return gr.skip() if stage == now.stage else {self.part.stage: stage}

    def step(self, event: gr.EventData, now: _Now) -> Any:
        _, found = now.look()  # before it is saved: a picture that gets its caption leaves "without a caption"
        following, stamp = grid.neighbour(found, now.picture, event.by), now.keep(self.desk, sure=event.sure)
        number = grid.page_of(now.look()[1], following)
        turned = gr.skip() if number is None else bound((now.path, now.wanted, now.kind), str(number))
        return {self.desk.changed: stamp, self.desk.number: turned, **self._show(now, following, now.chosen)}

    def pick(self, event: gr.EventData, now: _Now) -> Any:
        ids = _selected(event, now.look()[1], now.picture, now.selected())
        chosen = bound([now.path], " ".join(ids))
        return {self.desk.changed: now.keep(self.desk), self.desk.chosen: chosen, **self._show(now, event.id, chosen)}

    def visit(self, event: gr.EventData, now: _Now) -> Any:
        stamp = now.keep(self.desk)
        return {self.desk.changed: stamp, self.desk.wanted: "", **self._show(now, now.asked, now.chosen)}


def _candid(answer: Callable[[gr.EventData, _Now], Any], told: gr.Textbox) -> Callable[..., Any]:
    """Say what stands where it should be saved, and remember that it was said; a save by itself keeps quiet."""

    def wrapped(event: gr.EventData, *values: str) -> Any:
        try:
            return answer(event, _Now(*values))
        except Overwritten as error:
            if event.idle:
                return gr.skip()
            say(error)
            return {told: error.now}

    return kindly(wrapped)


def _selected(event: gr.EventData, found: list[Entry], opened: str, before: list[str]) -> list[str]:
    """The selection after a click: Ctrl takes one in or out, Shift all from the open one, a plain click ends it."""
    if event.range:
        return list(dict.fromkeys([*before, *grid.span(found, event.since or opened, event.id)]))
    if not event.add:
        return []
    before = before or ([opened] if opened and opened != event.id else [])
    return [key for key in before if key != event.id] if event.id in before else [*before, event.id]


def entry_stamp(entry: Entry) -> str:
    """A picture's id and captions, a line each: a text typed over another picture's captions is known by it."""
    return "\n".join((entry.id, *entry.captions))


def typed(text: str, before: str) -> bool:
    """Whether an editor's text is another than the captions of a stamp."""
    _, _, captions = before.partition("\n")
    return _lines(text) != _lines(captions)


def _lines(text: str) -> list[str]:
    return [line for line in map(fold, (text or "").splitlines()) if line]


def save_caption(desk: Desk, path: str, picture: str, text: str, before: str, told: str = "") -> bool:
    """Keep what was typed; returns whether the set has changed.

    Args:
        desk: knows which sets may be changed.
        path: folder of the set.
        picture: its id.
        text: what was typed, a caption on each line.
        before: the picture as it was read, see `entry_stamp`; that of another picture saves nothing.
        told: the same of what somebody else wrote meanwhile, if it may be replaced.

    Raises:
        Overwritten: other captions stand there than the user has seen.
        UserError: it cannot be kept.
    """
    if not path or not picture or before.partition("\n")[0] != picture or not typed(text, before):
        return False
    folder, write = desk.own(path), set_captions(text or "")

    def checked(entry: Entry) -> Entry:
        after, now = write(entry), entry_stamp(entry)
        if after != entry and now not in (before, told):
            fix = "Save again (Ctrl Enter) to put yours in its place; what you typed is still in the box."
            stands = " / ".join(entry.captions) or "no caption"
            raise Overwritten(f"it was changed elsewhere meanwhile; now it says: {stands}", entry.name, fix, now)
        return after

    entry = find(sets.album(folder), picture)
    if entry is None or checked(entry) == entry:
        return False
    edit(folder, f"caption of {entry.name}", [picture], checked)
    return True


def find(album: Album, picture: str) -> Entry | None:
    """A picture by its id."""
    return next((entry for entry in album.entries if entry.id == picture), None)


def opened(path: str, picture: str, chosen: str, eye: str) -> tuple[Any, ...]:
    """Values of the editor for a picture; of the first where that one is gone."""
    album = sets.album(Path(path)) if path else Album()
    entry = find(album, picture) or next(iter(album.entries), None)
    selected = set(of([path], chosen).split())
    ids = [one.id for one in album.entries if one.id in selected]
    if entry is None:
        return "", "", "", "", gr.skip(), gr.skip(), "", ""
    text = "\n".join(entry.captions)
    meant = [one for one in album.entries if one.id in ids] or [entry]
    some = f" {len(ids)} selected" if ids else ""
    out = ("Take in again" if all(one.excluded for one in meant) else "Leave out") + some
    stage = crops.stage_html(Path(path), entry, eye)
    labels = gr.Button(out), gr.Button(f"Delete{some}")
    marks, counted = grid.marks_html(entry.id, ids), " ".join(one.id for one in meant)
    return entry.id, stage, text, entry_stamp(entry), *labels, marks, counted


def _wire_actions(desk: Desk, part: _Editor) -> None:
    meant = [desk.page.dataset, desk.meant]

    def leave_out(path: str, meant: str) -> str:
        folder, ids = desk.own(path), set(meant.split())
        out = not all(entry.excluded for entry in sets.album(folder).entries if entry.id in ids)
        label = f"{'leave out' if out else 'take in'} {sets.count(len(ids), 'picture')}"
        edit(folder, label, ids, lambda entry: entry.model_copy(update={"excluded": out}))
        return news()

    def remove(path: str, meant: str) -> tuple[str, str]:
        folder, ids = desk.own(path), set(meant.split())

        def without(album: Album) -> Album:
            return album.model_copy(update={"entries": tuple(one for one in album.entries if one.id not in ids)})

        change(folder, f"delete {sets.count(len(ids), 'picture')}", without)
        return news(), ""

    part.out.click(kindly(leave_out), meant, desk.changed, **quiet())
    part.remove.click(kindly(remove), meant, [desk.changed, desk.chosen], **quiet())
