"""The Hub's cache: where it is, how large, and what may go."""

import html
from typing import Any

import gradio as gr

from app import owners
from app.views import hub
from app.views.cards import size_text
from app.views.page import Page, kindly, quiet
from app.views.sets import count

SHARED = "Other programs use the same cache. What is removed is fetched again when it is used."
MOST = 12  # rows that are shown; the list to choose from has all


def build(page: Page) -> Any:
    """Lay out the part; returns the event's function and outputs that show it anew."""
    gr.Markdown("### Models from the Hub")
    told = gr.HTML('<div class="hint">Counting …</div>', elem_id="settings-hub")
    chosen = gr.Dropdown([], label="Make room", info=SHARED, multiselect=True, visible=False,
                         elem_id="settings-hub-chosen")  # fmt: skip
    ask = gr.Button("Remove", size="md", interactive=False, visible=False, elem_id="settings-hub-remove")
    with gr.Row(elem_classes="tight", visible=False) as sure:
        yes = gr.Button("Yes, remove", variant="stop", size="md", elem_id="settings-hub-yes")
        no = gr.Button("Keep", size="md", elem_id="settings-hub-no")

    def look() -> list[Any]:
        if owners.bounded():
            return [gr.skip()] * 4
        found = hub.kept()
        some = bool(found)
        return [_table(found), gr.Dropdown([(row.label, row.key) for row in found], value=[], visible=some),
                gr.Button("Remove", visible=some, interactive=False), gr.Row(visible=False)]  # fmt: skip

    def really(keys: list[str]) -> list[Any]:
        owners.check_keeper("Hub cache")
        room = sum(row.size for row in hub.kept() if row.key in keys)
        return [gr.Button(visible=False), gr.Row(visible=True),
                gr.Button(f"Yes, remove {count(len(keys), 'model')}, {size_text(room)}")]  # fmt: skip

    def remove(keys: list[str]) -> list[Any]:
        owners.check_keeper("Hub cache")
        gr.Info(f"{size_text(hub.remove(page.home, keys))} of room are made.")
        return look()

    shown = [told, chosen, ask, sure]
    chosen.input(lambda keys: gr.Button(interactive=bool(keys)), chosen, ask, **quiet())
    ask.click(kindly(really), chosen, [ask, sure, yes], **quiet())
    yes.click(kindly(remove), chosen, shown, **quiet())
    no.click(lambda: [gr.Row(visible=False), gr.Button(visible=True)], None, [sure, ask], **quiet())
    return look, shown


def _table(found: list[hub.Kept]) -> str:
    """HTML: place, size, the largest."""
    total = sum(row.size for row in found)
    rows = [("place", f"<code>{html.escape(str(hub.place()))}</code>"),
            ("in all", f"{size_text(total)} in {count(len(found), 'model')}" if found else "nothing yet")]  # fmt: skip
    rows += [(html.escape(row.name), size_text(row.size)) for row in found[:MOST]]
    rows += [("others", count(len(found) - MOST, "model"))] if len(found) > MOST else []
    listed = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<div class="facts"><table>{listed}</table></div>'
