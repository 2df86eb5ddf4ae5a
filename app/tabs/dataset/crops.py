"""What the model will see: the part of the open picture that is kept, its focus point, and the shapes of the set."""

import html
from pathlib import Path

import gradio as gr

from app.settings import load_settings
from app.tabs.dataset.concepts import turn
from app.tabs.dataset.desk import Desk, news
from app.views import grid, pictures, sets
from app.views.bases import shelf
from app.views.eyes import EYES
from app.views.page import kindly, quiet
from trainer.pictures.album import Album, Entry, edit, locate
from trainer.pictures.buckets import Box
from trainer.pictures.crops import Shown, plan
from trainer.pictures.epochs import Row, histogram, steps_per_epoch

SCRIPT = Path(__file__).with_name("stage.js").read_text("utf-8")


def choose_eye(desk: Desk) -> gr.Dropdown:
    """The kind of base that is asked what it sees; at first that of the base used last."""
    kind = shelf(load_settings(desk.page.home).base)
    return gr.Dropdown([(eye.title, key) for key, eye in EYES.items()], value=kind if kind in EYES else "sd",
                       show_label=False, container=False, elem_id="dataset-eye", min_width=200)  # fmt: skip


def build(desk: Desk, eye: gr.Dropdown) -> None:
    """Lay out the shapes of the set."""
    batch = EYES[str(eye.value)].batch_size
    with gr.Accordion("What the model will see of the set", open=False, elem_id="dataset-shapes"), gr.Row():
        with gr.Column(scale=1, min_width=140):
            size = gr.Number(batch, label="Batch size", minimum=1, precision=0, elem_id="dataset-batch")
        with gr.Column(scale=5, min_width=320):
            shapes = gr.HTML("", elem_id="dataset-histogram", apply_default_css=False)
    shown = [desk.page.dataset, eye, size]
    desk.follow(shapes_html, shown, shapes)
    size.input(sets.guarded(shapes_html), shown, shapes, **quiet(trigger_mode="always_last"))
    eye.input(lambda key: EYES[key].batch_size, eye, size, **quiet()).then(shapes_html, shown, shapes, **quiet())


def wire_focus(desk: Desk, stage: gr.HTML, clear: gr.Button) -> None:
    """A click or a drag on the open picture sets its focus point; a button takes it away."""

    def put(path: str, picture: str, focus: tuple[float, float] | None) -> str:
        folder = desk.own(path)
        name = next((entry.name for entry in sets.album(folder).entries if entry.id == picture), "")
        label = f"focus point of {name}" if focus else f"no focus point for {name}"
        edit(folder, label, [picture], lambda entry: entry.model_copy(update={"focus": focus}))
        return news()

    def aim(event: gr.EventData, path: str, picture: str) -> str:
        x, y = (round(min(1.0, max(0.0, float(part))), 4) for part in (event.x, event.y))
        return put(path, picture, (x, y))

    where = [desk.page.dataset, desk.picture]
    stage.aim(kindly(aim), where, desk.changed, **quiet())
    clear.click(kindly(lambda path, picture: put(path, picture, None)), where, desk.changed, **quiet())


def stage_html(folder: Path, entry: Entry, key: str) -> str:
    """HTML: the open picture, what is cut off it darkened, its focus point, and figures."""
    size = entry.size or pictures.size(locate(folder, entry.file))
    seen = plan([(entry.model_copy(update={"excluded": False}), size)], EYES[key].options) if size else []
    facts = [html.escape(entry.name)]
    facts += [f"{size[0]} × {size[1]}"] if size else ["cannot be read"]
    facts += [_words(one) for one in seen]
    facts += [html.escape(f"concept {entry.concept}")] if entry.concept else []
    facts += ["<b>left out</b>"] if entry.excluded else []
    over = "".join(_overlay(one) for one in seen)
    return (
        f'<figure class="stage" data-id="{entry.id}"><div><div class="picture">'
        f'<img src="{grid.source(folder, entry, "large")}" draggable="false" alt="">{over}</div></div>'
        f"<figcaption>{' · '.join(facts)}</figcaption></figure>"
    )


def _words(one: Shown) -> str:
    seen = f"seen as <b>{one.bucket.width} × {one.bucket.height}</b>"
    if abs(one.scale - 1) < 0.005:
        return seen
    return f"{seen}, enlarged {one.scale:.1f} ×" if one.scale > 1 else f"{seen}, made smaller to {one.scale:.0%}"


def _overlay(one: Shown) -> str:
    """SVG over the picture, in the picture's own pixels."""
    width, height = one.size
    left, top, right, bottom = one.boxes[0]
    dark = f"M0 0H{width}V{height}H0ZM{left:.2f} {top:.2f}V{bottom:.2f}H{right:.2f}V{top:.2f}Z"
    focus = one.entry.focus
    point = "" if focus is None else _point(focus[0] * width, focus[1] * height, one.boxes[0])
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f'<path class="dark" fill-rule="evenodd" d="{dark}"/>'
        f'<rect class="kept" x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" height="{bottom - top:.2f}"/>'
        f"{point}</svg>"
    )


def _point(x: float, y: float, box: Box) -> str:
    radius = max(box[2] - box[0], box[3] - box[1]) / 40
    return f'<circle class="focus" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>'


def shapes_html(path: str, key: str, batch_size: float | None) -> str:
    """HTML: how many pictures are in which shape, and the steps that an epoch takes."""
    album, folder = (sets.album(Path(path)), Path(path)) if path else (Album(), Path())
    used = [entry for entry in album.entries if not entry.excluded]
    sized = {entry: size for entry in used if (size := entry.size or pictures.size(locate(folder, entry.file)))}
    if not sized:
        return '<div class="report">No picture that can be read.</div>'
    first = {size: entry for entry, size in sized.items()}  # pictures of one size are seen in one shape
    shape = {one.size: one for one in plan(((entry, size) for size, entry in first.items()), EYES[key].options)}
    seen = [(entry, shape[size]) for entry, size in sized.items()]
    turns = [turn(album, entry, one.bucket) for entry, one in seen]
    batch = max(1, int(batch_size or 1))
    rows = histogram(turns, batch)
    most = max(row.pictures for row in rows)
    bars = "".join(_bar(row, most) for row in rows)
    small = sum(one.scale > 1.005 for _, one in seen)
    note = f" {sets.count(small, 'picture is', 'pictures are')} enlarged." if small else ""
    steps = f"{steps_per_epoch(turns, batch):g}"
    head = f"<b>{steps}</b> steps in an epoch of {sets.count(len(seen), 'picture')} at batch size {batch}.{note}"
    return f'<div class="report">{head}</div><table class="shapes">{bars}</table>'


def _bar(row: Row, most: int) -> str:
    return (
        f"<tr><td>{row.bucket.width} × {row.bucket.height}</td><td>{row.pictures}</td>"
        f'<td><i style="width:{row.pictures / most:.0%}"></i></td>'
        f"<td>{sets.count(row.batches, 'batch', 'batches')}</td></tr>"
    )
