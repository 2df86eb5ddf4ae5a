"""Concepts of a set: pictures that belong together, with a trigger, repeats and a way of mirroring of their own."""

from typing import Any

import gradio as gr
from pydantic import ValidationError

from app.tabs.dataset.desk import Desk, look, news
from app.views import sets
from app.views.page import kindly, quiet
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Concept, change
from trainer.pictures.captions import fold

HEADERS = ("concept", "pictures", "trigger", "class word", "repeats", "mirror", "regularisation")
HINT = (
    "For several things in one set: type a new name or choose one. A concept without a trigger or class word has the "
    "set's. Repeats: how often a picture is seen in an epoch. Mirror: as the run, yes or no. Regularisation: pictures "
    "of what is not to change; they get no trigger. What is changed in the table is kept at once."
)
FLIPS = {"as the run": None, "yes": True, "no": False}


def build(desk: Desk) -> None:
    """Lay out the panel."""
    with gr.Accordion("Concepts", open=False, elem_id="dataset-concepts"):
        gr.HTML(f'<div class="hint">{HINT}</div>')
        with gr.Row(elem_classes="tight"):
            name = gr.Dropdown([], allow_custom_value=True, show_label=False, container=False, min_width=200,
                               elem_id="concept-name", scale=3)  # fmt: skip
            put = gr.Button("Put the open or selected pictures into it", size="md", elem_id="concept-put", scale=2)
        table = gr.Dataframe(headers=list(HEADERS), datatype=["str", "number", "str", "str", "number", "str", "bool"],
                             type="array", static_columns=[0, 1], interactive=True, show_label=False,
                             elem_id="concept-table", buttons=[])  # fmt: skip

    def show(path: str) -> tuple[gr.Dropdown, list[list[Any]]]:
        album = look(path, "", "all")[0]
        return gr.Dropdown(["", *album.concepts], value=""), rows(album)

    def move(path: str, picture: str, chosen: str, wanted: str) -> str:
        folder, ids = desk.own(path), set(chosen.split() or [picture])
        key = fold(wanted or "")
        label = f"{sets.count(len(ids), 'picture')} to {f'concept {key}' if key else 'no concept'}"
        change(folder, label, lambda album: moved(album, ids, key))
        return news()

    def keep(path: str, values: list[list[Any]]) -> str:
        said = read_rows(values)

        def known(album: Album) -> Album:
            """What was made or dropped elsewhere since the table was shown stays as it is."""
            concepts = {name: said.get(name, one) for name, one in album.concepts.items()}
            return album.model_copy(update={"concepts": concepts})

        change(desk.own(path), "concepts", known)
        return news()

    desk.follow(show, desk.page.dataset, [name, table])
    put.click(kindly(move), [desk.page.dataset, desk.picture, desk.chosen, name], desk.changed, **quiet())
    table.input(kindly(keep), [desk.page.dataset, table], desk.changed, **quiet())


def rows(album: Album) -> list[list[Any]]:
    """The concepts of a set as rows under `HEADERS`."""
    flips = {flip: word for word, flip in FLIPS.items()}
    return [
        [name, sum(entry.concept == name for entry in album.entries), one.trigger, one.class_word, one.repeats,
         flips[one.flip], one.regularisation]
        for name, one in album.concepts.items()
    ]  # fmt: skip


def read_rows(values: list[list[Any]]) -> dict[str, Concept]:
    """Concepts from rows under `HEADERS`.

    Raises:
        UserError: a number or a word in them is not allowed.
    """
    found = {}
    for name, _, trigger, kind, repeats, flip, regularisation in values:
        if not name:
            continue
        if (flip or "as the run") not in FLIPS:
            raise UserError(f"'{flip}' is no way of mirroring", f"concept {name}", f"Write one of: {', '.join(FLIPS)}.")
        try:
            found[str(name)] = Concept(
                trigger=fold(str(trigger or "")), class_word=fold(str(kind or "")), repeats=repeats or 1,
                flip=FLIPS[flip or "as the run"], regularisation=str(regularisation).lower() == "true",
            )  # fmt: skip
        except ValidationError as error:
            fix = "Repeats are a whole number from 1 to 9999."
            raise UserError(f"'{repeats}' cannot be used as repeats", f"concept {name}", fix) from error
    return found


def moved(album: Album, ids: set[str], name: str) -> Album:
    """The set with some pictures in a concept, "" for none; concepts without a picture are dropped."""
    entries = tuple(entry.model_copy(update={"concept": name}) if entry.id in ids else entry for entry in album.entries)
    there = {entry.concept for entry in entries} - {""}
    new = {name: Concept()} if name and name not in album.concepts else {}
    concepts = {key: one for key, one in (album.concepts | new).items() if key in there}
    return album.model_copy(update={"entries": entries, "concepts": concepts})
