"""Where pictures are shown: one, two with a divider between them, or a table. Drawn by the browser from JSON."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

SCRIPT = Path(__file__).with_name("stage.js").read_text("utf-8")
DRAFT, HALF, FULL = "draft", "drawing", ""
EMPTY = json.dumps({"kind": "none"})


@dataclass(frozen=True)
class Shown:
    """A picture, and what it is compared with.

    Attributes:
        base: address of the base's picture; "" while it is not there, and where nothing is compared.
        result: address of the picture with the adapters; "" while it is not there.
        width, height: in pixels, of what it will be.
        words: what the result is.
        mark: `DRAFT`, `HALF` or `FULL`: what it is not yet.
        download: name of its file.
        back: the grid that it is a cell of.
    """

    base: str = ""
    result: str = ""
    width: int = 1
    height: int = 1
    words: str = ""
    mark: str = FULL
    download: str = ""
    back: str = ""

    def value(self, kind: str = "picture") -> str:
        """For the component; `begin` for a place that is empty yet."""
        return json.dumps({"kind": kind, **asdict(self)})

    def but(self, **changes: Any) -> "Shown":
        """The same with something else."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Table:
    """A grid as far as it is drawn.

    Attributes:
        id: of its entry in the history.
        across, down: what varies; "" where the labels say it.
        columns, rows: labels; one empty row label where only one thing varies.
        cells: place, row by row -> address of its picture.
        width, height: of a cell in pixels.
        done: whether all is there, and the sheet with it.
    """

    id: str
    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[int, str]
    width: int = 1
    height: int = 1
    done: bool = False

    def value(self) -> str:
        """For the component."""
        return json.dumps({"kind": "grid", **asdict(self)})


def build() -> gr.HTML:
    """Lay it out. Its events: `take` a cell, `back` to a grid."""
    return gr.HTML(EMPTY, html_template='<div class="result"></div>', js_on_load=SCRIPT, apply_default_css=False,
                   padding=False, elem_id="preview-result")  # fmt: skip


def inline(picture: Path) -> str:
    """A picture as a part of the page, for one that is gone in a moment; "" where it is gone already."""
    try:
        with Image.open(picture, formats=("PNG",)) as image:
            held = io.BytesIO()
            image.convert("RGB").save(held, "WEBP", quality=85)
    except FileNotFoundError:
        return ""
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
