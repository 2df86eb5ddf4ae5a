"""The trigger word of a set and what it is: one place for them, from which training and prompts take them."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.tabs.dataset.desk import Desk, look, news
from app.views import sets
from app.views.page import in_turn, kindly, one_by_one
from trainer.pictures.album import Album, change
from trainer.pictures.captions import fold

LABELS = {"trigger": "trigger word", "class_word": "class word"}


def build(desk: Desk) -> None:
    """Lay out the two fields; what is typed is kept when one leaves them."""
    with gr.Row():
        trigger = gr.Textbox(label="Trigger word", placeholder="none", elem_id="dataset-trigger", min_width=220,
                             info="A rare word that calls the subject. Captions that lack it get it in training; "
                                  "the captions themselves stay as they are.")  # fmt: skip
        kind = gr.Textbox(label="Class word", placeholder="none", elem_id="dataset-class", min_width=220,
                          info="What it is: dog, woman, drawing. With the trigger, the text of pictures without "
                               "a caption.")  # fmt: skip

    note = gr.HTML("", elem_id="dataset-trigger-note", padding=False, apply_default_css=False)
    trigger.change(sets.trigger_note_html, trigger, note, **in_turn("trigger-note"))

    def keep(field: str) -> Callable[[str, str], Any]:
        def one(path: str, text: str) -> Any:
            words = {field: fold(text or "")}
            if not path or getattr(look(path, "", "all")[0], field) == words[field]:
                return gr.skip(), gr.skip()
            after = change(desk.own(path), LABELS[field], lambda album: album.model_copy(update=words))
            return _stamp(path, _words(after)), news()

        return one

    def show(path: str, before: str) -> Any:
        """What the set has; a field that has it already is left alone: somebody may be typing into it."""
        stamp = _stamp(path, _words(look(path, "", "all")[0]))
        now, then = stamp.split("\n"), before.split("\n")
        known = dict(enumerate(then)) if then[0] == path else {}
        values = [gr.skip() if known.get(place) == now[place] else now[place] for place in (1, 2)]
        return [gr.skip() if stamp == before else stamp, *values]

    fields = {"trigger": trigger, "class_word": kind}
    for name, field in fields.items():
        gr.on([field.blur, field.submit], kindly(keep(name)), [desk.page.dataset, field], [desk.words, desk.changed],
              **one_by_one(sets.WORDS))  # fmt: skip
    desk.follow(show, [desk.page.dataset, desk.words], [desk.words, *fields.values()])


def _words(album: Album) -> dict[str, str]:
    return {"trigger": album.trigger, "class_word": album.class_word}


def _stamp(path: str, words: dict[str, str]) -> str:
    return "\n".join((path, *words.values()))
