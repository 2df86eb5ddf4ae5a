"""The captions of many pictures at once, with a look at what would change; and how often each tag is there."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.tabs.dataset.desk import Desk, Words, look, news, of
from app.views import grid, sets
from app.views.page import edited, in_turn, kindly, quiet
from trainer.contract.errors import UserError
from trainer.pictures import tags
from trainer.pictures.album import Entry, edit

ROWS = 8  # of the look at what would change
TAGS = 150  # that are listed
TAG_SCRIPT = """element.addEventListener("click", event => {
    const tag = event.target.closest("[data-tag]");
    if (tag) trigger("tag", { tag: tag.dataset.tag });
});"""


class Switches(NamedTuple):
    """What the two check boxes say; they count for find and replace."""

    pattern: bool
    any_case: bool


class Way(NamedTuple):
    """A thing to do with captions: what its two fields are called ("" hides one), and how the edit is made."""

    title: str
    first: str
    second: str
    make: Callable[[str, str, Switches], tags.Edit]


WAYS: dict[str, Way] = {
    "replace": Way("Find and replace", "Find", "Replace by",
                   lambda one, two, on: tags.find_replace(one, two, pattern=on.pattern, any_case=on.any_case)),
    "add": Way("Add a tag", "Tag", "", lambda one, two, on: tags.add(one)),
    "front": Way("Add a tag at the front", "Tag", "", lambda one, two, on: tags.add(one, front=True)),
    "remove": Way("Remove a tag", "Tag", "", lambda one, two, on: tags.remove(one)),
    "rename": Way("Rename a tag", "Tag", "New name", lambda one, two, on: tags.rename(one, two)),
    "move": Way("Move a tag to the front", "Tag", "", lambda one, two, on: tags.move_to_front(one)),
    "surround": Way("Put words around", "Before", "Behind", lambda one, two, on: tags.surround(one, two)),
    "trigger": Way("Write the trigger word", "Trigger", "", lambda one, two, on: tags.inject(one)),
    "dedupe": Way("Leave each tag once", "", "", lambda one, two, on: tags.dedupe()),
    "spaces": Way("Underscores to spaces", "", "", lambda one, two, on: tags.spaced()),
}  # fmt: skip


def build(desk: Desk, words: Words) -> None:
    """Lay out the panel."""
    with gr.Accordion("Change many captions", open=False, elem_id="dataset-bulk"):
        with gr.Row(elem_classes="tight"):
            way = gr.Dropdown([(row.title, key) for key, row in WAYS.items()], value="replace", label="What to do",
                              elem_id="bulk-way", min_width=170)  # fmt: skip
            first = gr.Textbox(label=WAYS["replace"].first, elem_id="bulk-first", min_width=170)
            second = gr.Textbox(label=WAYS["replace"].second, elem_id="bulk-second", min_width=170)
            scope = gr.Radio([("all shown", "shown"), ("the selected", "chosen")], value="shown", label="Of which",
                             elem_id="bulk-scope", min_width=190)  # fmt: skip
        with gr.Row(elem_classes="tight"):
            pattern = gr.Checkbox(False, label="regular expression", elem_id="bulk-pattern", container=False)
            any_case = gr.Checkbox(False, label="capital and small letters alike", elem_id="bulk-case", container=False)
            apply = gr.Button("Apply", size="md", variant="primary", elem_id="bulk-apply", min_width=120)
        said = gr.HTML("", elem_id="bulk-preview", apply_default_css=False)
        gr.HTML('<div class="hint">Tags and how many pictures have them; a click shows those pictures.</div>')
        listed = gr.HTML("", elem_id="dataset-tags", js_on_load=TAG_SCRIPT, apply_default_css=False)
    asked = [desk.page.dataset, words.text, words.kind, desk.chosen, scope, way, first, second, pattern, any_case]

    def show(*values: Any) -> str:
        return _preview_html(_Asked(*values))

    def do(*values: Any) -> tuple[str, str]:
        return _apply(desk, _Asked(*values)), ""

    def fields(key: str) -> tuple[gr.Textbox, gr.Textbox, gr.Checkbox, gr.Checkbox]:
        row, finds = WAYS[key], key == "replace"
        boxes = [gr.Textbox(label=label, visible=bool(label)) for label in (row.first, row.second)]
        return boxes[0], boxes[1], gr.Checkbox(visible=finds), gr.Checkbox(visible=finds)

    way.input(fields, way, [first, second, pattern, any_case], **quiet())
    gr.on(
        [*edited(first, second, way, scope, pattern, any_case), words.text.change, words.kind.change],
        show, asked, said, **in_turn("bulk"),
    )  # fmt: skip
    apply.click(kindly(do), asked, [desk.changed, said], **quiet())
    desk.follow(_tags_html, [desk.page.dataset], [listed])
    listed.tag(_wanted, None, words.text, **quiet())


def _wanted(event: gr.EventData) -> str:
    return f"{grid.EXACT}{event.tag}"


class _Asked(NamedTuple):
    """What stands in the panel."""

    path: str
    text: str
    kind: str
    chosen: str
    scope: str
    way: str
    first: str
    second: str
    pattern: bool
    any_case: bool

    def entries(self) -> list[Entry]:
        """The pictures that are meant."""
        album, found = look(self.path, self.text, self.kind)
        chosen = set(of([self.path], self.chosen).split())
        return [entry for entry in album.entries if entry.id in chosen] if self.scope == "chosen" else found

    def edit(self) -> tags.Edit | None:
        """What is to be done; None where the fields it needs are empty. Raises UserError."""
        row = WAYS[self.way]
        if (row.first or row.second) and not (self.first or self.second):
            return None
        return row.make(self.first or "", self.second or "", Switches(bool(self.pattern), bool(self.any_case)))


def _preview_html(asked: _Asked) -> str:
    """HTML: how many captions would change, and the first of them before and after."""
    if not asked.path:
        return ""
    try:
        edit = asked.edit()
        changed = tags.preview(asked.entries(), edit) if edit else None
    except UserError as error:
        return f'<div class="report">{html.escape(error.problem)} {html.escape(error.fix)}</div>'
    if changed is None:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(one.name)}</td><td>{_text(one.before)}</td><td>{_text(one.after)}</td></tr>"
        for one in changed[:ROWS]
    )
    more = f" The first {ROWS}:" if len(changed) > ROWS else ""
    head = f"<b>{len(changed)}</b> of {sets.count(len(asked.entries()), 'picture')} would change.{more}"
    return f'<div class="report">{head}</div><table class="before-after">{rows}</table>'


def _text(captions: str) -> str:
    return html.escape(captions).replace("\n", "<br>") or "<i>none</i>"


def _apply(desk: Desk, asked: _Asked) -> str:
    folder, how = desk.own(asked.path), asked.edit()
    if how is None:
        raise UserError("there is nothing to do yet", WAYS[asked.way].title, "Fill in the fields.")
    ids = [entry.id for entry in asked.entries()]
    before = sets.album(folder)
    after = edit(folder, WAYS[asked.way].title.lower(), ids, how)
    count = sum(one != other for one, other in zip(before.entries, after.entries, strict=False))
    gr.Info(f"{sets.count(count, 'caption')} changed.")
    return news()


def _tags_html(path: str) -> str:
    """HTML: the tags of a set, the most frequent first."""
    entries = sets.album(Path(path)).entries if path else ()
    found = tags.frequencies(entry.captions for entry in entries).most_common(TAGS)
    chips = "".join(
        f'<button data-tag="{html.escape(tag)}">{html.escape(tag)} <b>{count}</b></button>' for tag, count in found
    )
    return f'<div class="dataset-tags">{chips or "no tags"}</div>'
