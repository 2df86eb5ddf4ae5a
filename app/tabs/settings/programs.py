"""Other programs on this machine: found or named, used or not any more."""

import html
from typing import Any

import gradio as gr

from app import owners
from app.clients import finding, layouts
from app.clients.layouts import LAYOUTS, Client
from app.settings import change_settings, load_settings
from app.views.page import Page, kindly, quiet
from trainer.contract.errors import UserError

SCRIPT = """element.addEventListener("click", event => {
    const button = event.target.closest("[data-do]");
    if (["use", "drop"].includes(button?.dataset.do)) trigger(button.dataset.do, { folder: button.dataset.folder });
});"""
WHERE = "Other programs"
WHY = (
    "Their base models can be trained on and their LoRAs show in the Library, read where they are; "
    "finished files are sent to them from there."
)


def build(page: Page) -> Any:
    """Lay out the part; returns the event's function and outputs that show it anew."""
    titles = ", ".join(layout.title for layout in LAYOUTS.values())
    gr.Markdown(f"### {titles}")
    listed = gr.HTML(elem_id="settings-programs", js_on_load=SCRIPT, apply_default_css=False, padding=False)
    with gr.Row(elem_classes="tight ends"):
        folder = gr.Textbox("", label="Folder of another one", placeholder="/home/me/ComfyUI", scale=4, min_width=200,
                            elem_id="settings-program-folder")  # fmt: skip
        add = gr.Button("Add", size="md", scale=1, min_width=80, elem_id="settings-program-add")

    def show() -> str:
        return "" if owners.bounded() else _listed(page, finding.find())

    def use(event: gr.EventData) -> str:
        owners.check_keeper(WHERE)
        _add(page, layouts.named(str(event.folder)))
        return show()

    def drop(event: gr.EventData) -> str:
        owners.check_keeper(WHERE)
        kept = [client for client in load_settings(page.home).clients if client.folder != event.folder]
        change_settings(page.home, clients=kept)
        return show()

    def typed(text: str) -> tuple[str, str]:
        owners.check_keeper(WHERE)
        client = layouts.named(text)
        _add(page, client)
        gr.Info(f"{client.title} is used from now on.")
        return "", show()

    listed.use(kindly(use), None, listed, **quiet())
    listed.drop(kindly(drop), None, listed, **quiet())
    gr.on([add.click, folder.submit], kindly(typed), folder, [folder, listed], **quiet())
    return show, [listed]


def _add(page: Page, client: Client) -> None:
    """Raises UserError where it is used already."""
    known = load_settings(page.home).clients
    if any(one.root.resolve() == client.root.resolve() for one in known):
        raise UserError(f"this {client.title} is used already", client.folder, "Remove it first to add it anew.")
    change_settings(page.home, clients=(*known, client))


def _listed(page: Page, found: list[Client]) -> str:
    """HTML: those that are used, with their folders, and those that were found."""
    used = load_settings(page.home).clients
    places = {client.root.resolve() for client in used}
    new = [client for client in found if client.root.resolve() not in places]
    rows = "".join(_row(client, "drop", "Remove") for client in used)
    rows += "".join(_row(client, "use", "Use it") for client in new)
    hint = WHY if rows else f"{WHY} None was found by itself; name its folder below."
    return f'<div class="facts programs"><div class="hint">{hint}</div><table>{rows}</table></div>'


def _row(client: Client, what: str, words: str) -> str:
    folder = html.escape(client.folder)
    button = (
        f'<button type="button" data-do="{what}" data-folder="{folder}" '
        f'aria-label="{words}: {client.title} in {folder}">{words}</button>'
    )
    state = "" if what == "drop" else "<em>found here, not used yet</em>"
    if what == "drop":
        places = layouts.folders(client)
        state = "" if client.root.is_dir() else "<em>this folder is not there any more</em>"
        state += f"<em>LoRAs go to <code>{html.escape(str(places.loras[0]))}</code></em>"
        more = [str(one) for one in (*places.loras[1:], *places.bases) if one.is_dir()]
        listed = "<br>".join(map(html.escape, more))
        state += f"<details><summary>looks into {len(more)} more</summary>{listed}</details>" if more else ""
    return f"<tr><th>{client.title}</th><td><code>{folder}</code>{state}</td><td>{button}</td></tr>"
