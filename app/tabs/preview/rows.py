"""The adapters that are drawn with. A row each, drawn by the browser: its value is their list, as JSON."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from app.tabs.preview.form import AdapterRow
from app.views.page import empty
from trainer.formats.block_weights import PRESETS

SCRIPT = Path(__file__).with_name("rows.js").read_text("utf-8")
WORDS = {
    "ALL": "all blocks",
    "INALL": "way down",
    "INS": "way down, near the picture",
    "IND": "way down, deep",
    "MIDD": "deep blocks and middle",
    "OUTALL": "way up",
    "OUTD": "way up, deep",
    "OUTS": "way up, near the picture",
    "NONE": "no block",
}
NOTHING = empty("No adapter yet", "Train one, or add a file in the Library.")


def blocks() -> list[tuple[str, str]]:
    """(title, preset) of the block weights that there are a name for."""
    return [(f"{name}: {WORDS[name]}" if name in WORDS else name, name) for name in PRESETS]


def build() -> gr.HTML:
    """Lay them out: one empty row at first. Its events: `moving`, `moved`, `choose`."""
    script = SCRIPT.replace("PRESETS", json.dumps([("all blocks", ""), *blocks()[1:]]))
    return gr.HTML(
        dumped((AdapterRow(),)), html_template='<div class="adapters"></div>', js_on_load=script,
        apply_default_css=False, padding=False, elem_id="preview-rows",
    )  # fmt: skip


def dumped(rows: tuple[AdapterRow, ...]) -> str:
    """Rows as the component's value."""
    return json.dumps([row.model_dump() for row in rows or (AdapterRow(),)])


def read(value: str | None) -> list[dict[str, Any]]:
    """The component's value, not checked yet."""
    found = json.loads(value or "[]")
    return found if isinstance(found, list) else []
