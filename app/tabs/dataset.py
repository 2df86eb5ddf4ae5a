"""Dataset: put pictures in, see them, write their captions."""

import html
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from app.views import pictures, sets
from app.views.page import Page, empty, kindly, quiet
from trainer.contract.errors import UserError
from trainer.pictures.captions import write_caption
from trainer.pictures.importing import ImportReport, import_pictures

ID = "dataset"
EMPTY = empty(
    "No pictures here yet", "Drop ten to thirty pictures, a folder or a zip above; or begin with sample pictures."
)


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=320):
            chosen = gr.Dropdown(
                [], label="Set of pictures", elem_id="dataset-set", info="Each set is a folder on your disk."
            )
            with gr.Row(elem_classes="tight"):
                name = gr.Textbox(
                    show_label=False, placeholder="name of a new set", elem_id="dataset-name", container=False, scale=3
                )
                create = gr.Button("New set", elem_id="dataset-create", min_width=110, scale=1, size="md")
            gr.HTML('<div class="hint">Or begin with the sample pictures of</div>')
            with gr.Row(elem_classes="tight"):
                samples = {
                    key: gr.Button(title, icon=_first(page, key), elem_id=f"dataset-sample-{key}", min_width=140)
                    for key, title in {"style": "A style", "subject": "A subject"}.items()
                }
        with gr.Column(scale=6, min_width=320):
            upload = gr.File(label="Drop pictures, captions (.txt) or a zip here", file_count="multiple", height=170,
                             file_types=sets.UPLOADABLE, elem_id="dataset-upload")  # fmt: skip
            folder = gr.UploadButton("Add a whole folder", file_count="directory", elem_id="dataset-folder", size="md")
    report = gr.HTML(elem_id="dataset-report")
    nothing = gr.HTML(EMPTY)
    editor = _editor(page, nothing)
    chosen.change(lambda path: path or "", chosen, page.dataset, **quiet())
    create.click(
        kindly(lambda text: (_chosen(page, sets.create(page.home, text)), "", "")),
        name,
        [chosen, name, report],
        **quiet(),
    )
    for key, button in samples.items():
        button.click(kindly(lambda key=key: _use_sample(page, key)), None, [chosen, report], **quiet()).then(**editor)
    for source in (upload, folder):
        source.upload(
            kindly(lambda paths, into: _add(page, paths, into)), [source, page.dataset], [chosen, report],
            show_progress="minimal", api_visibility="private", concurrency_limit=4,
        ).then(lambda: None, None, upload, **quiet()).then(**editor)  # fmt: skip
    page.blocks.load(lambda: _chosen(page, next(iter(sets.own(page.home)), None)), None, chosen, **quiet())


def _first(page: Page, key: str) -> str | None:
    """A picture of a sample set, for its button."""
    folder = sets.sample_folders().get(key)
    found = sets.files(folder) if folder else []
    return pictures.copy(page.home, found[0]) if found else None


def _chosen(page: Page, path: Path | None) -> gr.Dropdown:
    return gr.Dropdown([(path.name, str(path)) for path in sets.own(page.home)], value=str(path) if path else None)


def _add(page: Page, uploads: list[str] | None, into: str) -> Any:
    """Import what was uploaded into the chosen set, or into a new one where none is chosen."""
    if not uploads:
        return gr.skip()
    target = Path(into) if into else sets.create(page.home, "")
    with tempfile.TemporaryDirectory(dir=page.home / ".cache") as place:
        report = import_pictures(sets.stage([Path(path) for path in uploads], Path(place)), target)
    return _chosen(page, target), _report(report)


def _use_sample(page: Page, key: str) -> Any:
    """Copy a sample set among the user's own, once: the copy may be edited."""
    source = sets.sample_folders().get(key)
    if source is None:
        raise UserError(f"the sample pictures '{key}' did not come along", "presets/demo", "Install the program again.")
    target = page.home / "datasets" / f"sample-{key}"
    if sets.files(target):
        return _chosen(page, target), ""
    report = import_pictures([source], target)
    return _chosen(page, target), _report(report)


def _report(report: ImportReport) -> str:
    """HTML: what became of each picture."""
    parts = [f"<b>{len(report.accepted)}</b> added"]
    parts += [f"<b>{len(report.duplicates)}</b> there already"] if report.duplicates else []
    parts += [f"<b>{len(report.rejected)}</b> not usable"] if report.rejected else []
    reasons = [f"{Path(item.source).name}: {item.reason}" for item in report.rejected] + list(report.notes)
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in reasons[:20])
    return f'<div class="report">{" · ".join(parts)}{f"<ul>{listed}</ul>" if listed else ""}</div>'


def _editor(page: Page, nothing: gr.HTML) -> dict[str, Any]:
    """The gallery and the captions; returns the event that brings them up to date."""
    picture = gr.Textbox("", visible="hidden")  # outside: what a hidden column held is shown with it later
    with gr.Column(visible=False, elem_id="dataset-editor") as area:
        with gr.Row(elem_classes="halves"):
            with gr.Column(scale=6, min_width=320):
                gallery = gr.Gallery(show_label=False, columns=5, height="auto", object_fit="cover", interactive=False,
                                     allow_preview=False, elem_id="dataset-gallery", buttons=[])  # fmt: skip
            with gr.Column(scale=4, min_width=320):
                large = gr.Image(show_label=False, height=250, interactive=False, elem_id="dataset-picture", buttons=[])
                caption = gr.Textbox(label="Caption", lines=3, max_lines=6, elem_id="dataset-caption",
                                     info="What the picture shows, but not what all of them are to teach.")  # fmt: skip
                save = gr.Button("Save and next", variant="primary", elem_id="dataset-save")
                with gr.Row(elem_classes="tight"):
                    delete = gr.Button("Delete picture", size="md", elem_id="dataset-delete", min_width=120)
                    undo = gr.Button("Undo delete", size="md", visible=False, elem_id="dataset-undo", min_width=120)
        with gr.Accordion("All captions as a table", open=False, elem_id="dataset-table-box"):
            table = gr.Dataframe(headers=["picture", "caption"], datatype="str", type="array", wrap=True,
                                 static_columns=[0], column_widths=["30%", "70%"], show_label=False, interactive=True,
                                 max_height=400, elem_id="dataset-table", buttons=[])  # fmt: skip
            save_all = gr.Button("Save the table", elem_id="dataset-save-all")
    one, every = [picture, large, caption], [nothing, area, gallery, table, undo]
    update: dict[str, Any] = {
        "fn": lambda path, name: _show(page, path, name),
        "inputs": [page.dataset, picture], "outputs": [*every, *one], **quiet(),
    }  # fmt: skip

    def select(path: str, event: gr.SelectData) -> Any:
        return _open(page, path, event.index)

    def keep(path: str, name: str, text: str) -> Any:
        return _save_next(page, path, name, text)

    page.dataset.change(**update)
    gallery.select(select, page.dataset, one, **quiet())
    gr.on(
        [save.click, caption.submit], kindly(keep), [page.dataset, picture, caption], [gallery, table, *one], **quiet()
    )
    delete.click(kindly(_delete), [page.dataset, picture], None, **quiet()).then(**update)
    undo.click(
        kindly(lambda path: gr.Info(f"{sets.undelete(Path(path))} is back.")), page.dataset, None, **quiet()
    ).then(**update)
    save_all.click(kindly(_save_all), [page.dataset, table], None, **quiet()).then(**update)
    return update


def _copies(page: Page, found: list[Path], texts: list[str]) -> list[tuple[str, str]]:
    """Pictures for the gallery; a grey square stands for one that cannot be read, so that places stay right."""
    pairs = zip(found, texts, strict=True)
    return [(pictures.copy(page.home, path) or pictures.blank(page.home), text or "no caption") for path, text in pairs]


def _show(page: Page, path: str, name: str) -> Any:
    """Values of everything below the upload, for a set; the picture that was open stays open."""
    folder = Path(path) if path else None
    found = sets.files(folder) if folder else []
    if not folder or not found:
        undo = gr.Button(visible=bool(folder and sets.deleted(folder)))
        return gr.HTML(EMPTY, visible=True), gr.Column(visible=False), [], [], undo, "", None, ""
    texts = sets.captions(found)
    rows = [[_name(folder, item), text] for item, text in zip(found, texts, strict=True)]
    index = next((number for number, row in enumerate(rows) if row[0] == name), 0)
    gallery = gr.Gallery(_copies(page, found, texts), selected_index=index)
    undo = gr.Button(visible=bool(sets.deleted(folder)))
    return gr.HTML(visible=False), gr.Column(visible=True), gallery, rows, undo, *_open(page, path, index)


def _name(folder: Path, picture: Path) -> str:
    return picture.relative_to(folder).as_posix()


def _open(page: Page, path: str, index: int) -> tuple[str, str | None, str]:
    folder = Path(path)
    found = sets.files(folder)
    if not found:
        return "", None, ""
    item = found[min(index, len(found) - 1)]
    return _name(folder, item), pictures.copy(page.home, item), sets.captions([item])[0]


def _save_next(page: Page, path: str, name: str, text: str) -> Any:
    """Write the caption of the open picture and open the next one."""
    folder = Path(path)
    found = sets.files(folder)
    picture = _member(folder, name)
    write_caption(picture, text)
    texts = sets.captions(found)
    index = (found.index(picture) + 1) % len(found)
    rows = [[_name(folder, item), caption] for item, caption in zip(found, texts, strict=True)]
    return gr.Gallery(_copies(page, found, texts), selected_index=index), rows, *_open(page, path, index)


def _member(folder: Path, name: str) -> Path:
    """The picture of this set by its name; nothing outside the set can be named. Raises UserError."""
    found = {_name(folder, item): item for item in sets.files(folder)}
    if name not in found:
        raise UserError(f"'{name}' is not in this set any more", folder.name, "Choose another picture.")
    return found[name]


def _delete(path: str, name: str) -> None:
    folder = Path(path)
    sets.delete(folder, _member(folder, name))


def _save_all(path: str, rows: list[list[str]]) -> None:
    folder = Path(path)
    known = {_name(folder, item): item for item in sets.files(folder)}
    texts = {name: str(text or "") for name, text in rows if name in known}
    before = dict(zip(known, sets.captions(list(known.values())), strict=True))
    edited = [name for name, text in texts.items() if text.strip() != before[name]]
    for name in edited:
        write_caption(known[name], texts[name])
    gr.Info(f"{len(edited)} caption{'s' * (len(edited) != 1)} saved.")
