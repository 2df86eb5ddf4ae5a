"""Library: finished adapters with their covers and facts; download, upload, open in Preview."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app.views import adapters, conformance, pictures
from app.views.adapters import Adapter
from app.views.page import Page, empty, kindly, quiet
from trainer.contract.errors import UserError
from trainer.formats.inspect import inspect

ID = "library"
EMPTY = empty("No adapters yet", "Finished trainings land here by themselves. Files from elsewhere can be added below.")


def build(page: Page) -> None:
    """Lay out the tab."""
    chosen = gr.Textbox("", visible="hidden", elem_id="library-chosen")
    nothing = gr.HTML(EMPTY)
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=6, min_width=320):
            gallery = gr.Gallery(show_label=False, columns=4, height="auto", object_fit="cover", allow_preview=False,
                                 interactive=False, visible=False, elem_id="library-gallery", buttons=[])  # fmt: skip
            upload = gr.File(label="Add an adapter from elsewhere (.safetensors)", height=165, elem_id="library-upload")
        with gr.Column(scale=4, min_width=320):
            with gr.Row(elem_classes="tight"):
                attempt = gr.Button("Try it in Preview", variant="primary", visible=False, elem_id="library-try")
                download = gr.Button("Download", visible=False, elem_id="library-download")
            facts = gr.HTML(elem_id="library-facts")
    listing = [nothing, gallery]
    detail = [chosen, attempt, download, facts]
    page.on_open(lambda path: _opened(page, path), [*listing, *detail], chosen)

    def select(event: gr.SelectData) -> Any:
        found = adapters.adapters(page.home)
        return _detail(found[event.index]) if event.index < len(found) else gr.skip()

    gallery.select(kindly(select), None, detail, **quiet())
    attempt.click(lambda path: (path, gr.Tabs(selected="preview")), chosen, [page.adapter, page.tabs], **quiet())
    added = upload.upload(
        kindly(lambda path: _add(page, path)), upload, detail, api_visibility="private", show_progress="minimal"
    )
    added.then(lambda: (None, *_listing(page)), None, [upload, *listing], **quiet())


def _listing(page: Page) -> Any:
    found = adapters.adapters(page.home)
    return gr.HTML(visible=not found), gr.Gallery(
        [(_cover(page, item), item.name) for item in found], visible=bool(found)
    )


def _opened(page: Page, path: str) -> Any:
    """The list, and the details of the newest where none is chosen yet."""
    found = adapters.adapters(page.home)
    details = _detail(found[0]) if found and not path else [gr.skip()] * 4
    return *_listing(page), *details


def _cover(page: Page, item: Adapter) -> str:
    picture = adapters.cover(item)
    return (picture and pictures.copy(page.home, picture)) or pictures.tile(page.home, item.name)


def _add(page: Page, path: str) -> Any:
    target = adapters.add(page.home, Path(path))
    gr.Info(f"{target.name} is in your library.")
    return _detail(adapters.find(page.home, str(target)))


def _detail(item: Adapter) -> Any:
    try:
        text = _facts(item, inspect(item.path).as_dict()) + conformance.table(item.path)
    except UserError as error:
        text = f'<div class="note">{html.escape(str(error))}</div>'
    return str(item.path), gr.Button(visible=True), gr.Button(visible=True, link=item.link), text


def _facts(item: Adapter, facts: Mapping[str, Any]) -> str:
    """HTML: a table of what the file says about itself."""
    counts = (
        (facts["unet_modules"], "UNet"),
        (facts["text_encoder_modules"], "text encoder"),
        (facts["text_encoder_2_modules"], "second text encoder"),
        (facts["other_modules"], "other"),
    )
    rows = [
        ("trigger words", ", ".join(facts["triggers"]) or "none"),
        ("made for", " · ".join(dict.fromkeys(filter(None, (facts["base"], facts["family"]))))),
        ("method", facts["method"]),
        ("rank", ", ".join(map(str, facts["ranks"]))),
        ("factor", ", ".join(map(str, facts["factors"]))),
        ("alpha", ", ".join(f"{value:g}" for value in facts["alphas"])),
        ("changes", ", ".join(f"{count} {kind} layers" for count, kind in counts if count)),
        ("size", f"{facts['size'] / 2**20:.1f} MB, {', '.join(facts['dtypes'])}"),
        ("tensor names", facts["format"]),
        ("from", f"run {item.run.name}" if item.run else "elsewhere"),
        ("hash (AutoV3)", facts["hash"][:12]),
        ("note", " ".join(facts["notes"])),
    ]
    rows = [(key, value) for key, value in rows if value]
    listed = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in rows)
    return f'<div class="facts"><h3>{html.escape(item.name)}</h3><table>{listed}</table></div>'
