"""Concepts of a set: pictures that belong together, with words, repeats or a share, and settings of their own."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import gradio as gr
from pydantic import ValidationError

from app.tabs.dataset.desk import Desk, look, news
from app.views import sets
from app.views.page import in_turn, kindly, quiet
from trainer.contract.config import Concept
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry, change
from trainer.pictures.buckets import Bucket
from trainer.pictures.captions import fold
from trainer.pictures.epochs import Share, Turn, portions

HINT = (
    "For several things in one set: type a new name or choose one. What a concept leaves empty is as the set or the "
    "run has it. Repeats: how often a picture is seen in an epoch. Share: the part of an epoch that the concept gets "
    "instead (0.3 or 30%); what shares leave is divided by repeats. Mirror: yes or no. Regularisation: pictures of "
    "what is not to change; they get no trigger. Before, behind: words around captions. "
    "Shuffle: auto, on or off. Changes are kept at once."
)
FLIPS = {"as the run": None, "yes": True, "no": False}


Kind = Literal["str", "number", "bool"]


class Column(NamedTuple):
    """A setting of a concept in the table.

    Attributes:
        header: above it.
        field: of `Concept`.
        kind: of its cells.
    """

    header: str
    field: str
    kind: Kind = "str"


STATIC: dict[str, Kind] = {
    "concept": "str",
    "pictures": "number",
    "of an epoch": "str",
}  # what the table says by itself
COLUMNS = (
    Column("trigger", "trigger"),
    Column("class word", "class_word"),
    Column("repeats", "repeats", "number"),
    Column("share", "share"),
    Column("mirror", "flip"),
    Column("regularisation", "regularisation", "bool"),
    Column("before", "caption_prefix"),
    Column("behind", "caption_suffix"),
    Column("shuffle", "shuffle"),
    Column("keep tokens", "keep_tokens"),
    Column("tag dropout", "tag_dropout"),
)
HEADERS = (*STATIC, *(one.header for one in COLUMNS))


def build(desk: Desk) -> None:
    """Lay out the panel."""
    with gr.Accordion("Concepts", open=False, elem_id="dataset-concepts"):
        gr.HTML(f'<div class="hint">{HINT}</div>')
        with gr.Row(elem_classes="tight"):
            name = gr.Dropdown([], allow_custom_value=True, show_label=False, container=False, min_width=200,
                               elem_id="concept-name", scale=3)  # fmt: skip
            put = gr.Button("Put the open or selected pictures into it", size="md", elem_id="concept-put", scale=2)
        table = gr.Dataframe(headers=list(HEADERS), datatype=[*STATIC.values(), *(one.kind for one in COLUMNS)],
                             type="array", static_columns=[*range(len(STATIC))], interactive=True, show_label=False,
                             elem_id="concept-table", buttons=[])  # fmt: skip

    def show(path: str, before: list[list[Any]]) -> Any:
        """What is being typed stays: a name, and a cell of a table that would be drawn anew for nothing."""
        album = look(path, "", "all")[0]
        after = rows(album)
        return gr.Dropdown(["", *album.concepts]), gr.skip() if after == before else after

    def move(path: str, meant: str, wanted: str) -> str:
        folder, ids = desk.own(path), set(meant.split())
        key = fold(wanted or "")
        label = f"{sets.count(len(ids), 'picture')} to {f'concept {key}' if key else 'no concept'}"
        change(folder, label, lambda album: moved(album, ids, key))
        return news()

    def keep(path: str, values: list[list[Any]]) -> str:
        said = read_rows(values)

        def known(album: Album) -> Album:
            """What was made or dropped elsewhere since the table was shown stays as it is."""
            concepts = {name: said.get(name, one) for name, one in album.concepts.items()}
            after = album.model_copy(update={"concepts": concepts})
            parts(after)  # says what is wrong with the shares
            return after

        change(desk.own(path), "concepts", known)
        return news()

    desk.follow(show, [desk.page.dataset, table], [name, table])
    put.click(kindly(move), [desk.page.dataset, desk.meant, name], desk.changed, **quiet())
    table.input(kindly(keep), [desk.page.dataset, table], desk.changed, **in_turn("concepts"))


def rows(album: Album) -> list[list[Any]]:
    """The concepts of a set as rows under `HEADERS`."""
    seen: Mapping[str, float] = {}
    with suppress(UserError):  # said where the shares are typed, and where the shapes of the set are shown
        seen = parts(album)
    return [
        [
            name,
            sum(entry.concept == name for entry in album.entries),
            f"{'+' if one.regularisation else ''}{seen[name]:.0%}" if name in seen else "",
            *(_shown(column.field, getattr(one, column.field)) for column in COLUMNS),
        ]
        for name, one in album.concepts.items()
    ]


def parts(album: Album) -> dict[str, float]:
    """The part of an epoch that each concept gets of what is learned, "" for the pictures of none.

    Raises:
        UserError: the shares are more than there is.
    """
    used = [entry for entry in album.entries if not entry.excluded]
    found: dict[str, float] = defaultdict(float)
    for entry, part in zip(used, portions([turn(album, entry, Bucket(1, 1)) for entry in used]), strict=True):
        found[entry.concept] += part
    return found


def turn(album: Album, entry: Entry, bucket: Bucket) -> Turn:
    """A picture as an epoch counts it where the set is trained alone."""
    own = album.concept_of(entry)
    share = None if own.share is None else Share(entry.concept, own.share)
    return Turn(bucket, own.repeats, own.regularisation, share)


def read_rows(values: list[list[Any]]) -> dict[str, Concept]:
    """Concepts from rows under `HEADERS`.

    Raises:
        UserError: a number or a word in them is not allowed.
    """
    found = {}
    for name, *cells in values:
        if not name:
            continue
        said = dict(zip(COLUMNS, cells[len(STATIC) - 1 :], strict=True))
        read = {column.field: _read(column.field, cell) for column, cell in said.items()}
        try:
            found[str(name)] = Concept(**{field: value for field, value in read.items() if value is not None})
        except ValidationError as error:
            raise _explained(str(name), error) from error
    return found


def _shown(field: str, value: Any) -> Any:
    if field == "flip":
        return {flip: word for word, flip in FLIPS.items()}[value]
    return "" if value is None else value if field in ("repeats", "regularisation") else str(value)


def _read(field: str, cell: Any) -> Any:
    """A cell as the schema takes it, which says what is wrong with it; None where it is empty."""
    text = fold("" if cell is None else str(cell))
    if field == "flip":
        return FLIPS.get(text, text)
    if field in ("share", "tag_dropout") and text.endswith("%"):
        with suppress(ValueError):
            return float(text[:-1]) / 100
    return text.lower() if field in ("regularisation", "shuffle") and text else text or None


def _explained(name: str, error: ValidationError) -> UserError:
    """What the schema says of a concept, in the words of the table."""
    (first, *_) = error.errors()
    said = first["msg"].removeprefix("Value error, ")
    header = next((column.header for column in COLUMNS if column.field in first["loc"]), "")
    ways = f"Write one of: {', '.join(FLIPS)}." if header == "mirror" else "Correct it in the table."
    problem = f"{header}: '{first['input']}' cannot be used. {said}" if header else said
    return UserError(problem, f"concept {name}", ways)


def moved(album: Album, ids: set[str], name: str) -> Album:
    """The set with some pictures in a concept, "" for none; concepts without a picture are dropped."""
    entries = tuple(entry.model_copy(update={"concept": name}) if entry.id in ids else entry for entry in album.entries)
    there = {entry.concept for entry in entries} - {""}
    new = {name: Concept()} if name and name not in album.concepts else {}
    concepts = {key: one for key, one in (album.concepts | new).items() if key in there}
    return album.model_copy(update={"entries": entries, "concepts": concepts})
