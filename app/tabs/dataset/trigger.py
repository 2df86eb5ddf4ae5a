"""The trigger word of a set and what it is: one place for them, from which training and prompts take them."""

from typing import Any

import gradio as gr

from app.tabs.dataset.desk import Desk, look, news
from app.views.page import kindly, quiet
from trainer.pictures.album import Album, change
from trainer.pictures.captions import fold


def build(desk: Desk) -> None:
    """Lay out the two fields; what is typed is kept when one leaves them."""
    with gr.Row():
        trigger = gr.Textbox(label="Trigger word", placeholder="none", elem_id="dataset-trigger", min_width=220,
                             info="A rare word that calls the subject. Captions that lack it get it in training; "
                                  "the captions themselves stay as they are.")  # fmt: skip
        kind = gr.Textbox(label="Class word", placeholder="none", elem_id="dataset-class", min_width=220,
                          info="What it is: dog, woman, drawing. With the trigger, the text of pictures without "
                               "a caption.")  # fmt: skip

    def keep(path: str, called: str, is_a: str) -> Any:
        words = {"trigger": fold(called or ""), "class_word": fold(is_a or "")}
        album = look(path, "", "all")[0]
        if not path or words == _words(album):
            return gr.skip(), gr.skip()
        change(desk.own(path), "trigger and class word", lambda album: album.model_copy(update=words))
        return _stamp(path, words), news()

    def show(path: str, before: str) -> Any:
        """What the set has, unless it stands there: the other field may be typed into meanwhile."""
        words = _words(look(path, "", "all")[0])
        stamp = _stamp(path, words)
        return [gr.skip()] * 3 if stamp == before else [stamp, *words.values()]

    fields = [trigger, kind]
    gr.on(
        [event for field in fields for event in (field.blur, field.submit)], kindly(keep), [desk.page.dataset, *fields],
        [desk.words, desk.changed], **quiet(trigger_mode="multiple"),
    )  # fmt: skip
    desk.follow(show, [desk.page.dataset, desk.words], [desk.words, *fields])


def _words(album: Album) -> dict[str, str]:
    return {"trigger": album.trigger, "class_word": album.class_word}


def _stamp(path: str, words: dict[str, str]) -> str:
    return "\n".join((path, *words.values()))
