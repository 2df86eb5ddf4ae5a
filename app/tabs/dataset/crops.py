"""What the model will see: the part of the open picture that is kept, its focus point, and the shapes of the set."""

import html
from pathlib import Path

import gradio as gr

from app.settings import load_settings
from app.tabs.dataset.concepts import turn
from app.tabs.dataset.desk import Desk, news
from app.views import grid, pictures, sets
from app.views.eyes import EYES, eye_of, kind_of
from app.views.page import kindly, quiet
from app.views.shapes import bars_html
from trainer.pictures.album import Album, Entry, edit, locate
from trainer.pictures.buckets import Box, Size
from trainer.pictures.crops import Shown, plan
from trainer.pictures.epochs import histogram, steps_per_epoch

SCRIPT = Path(__file__).with_name("stage.js").read_text("utf-8")


def choose_eye(desk: Desk) -> gr.Dropdown:
    """The kind of base that is asked what it sees: at first, and whenever that changes, what stands in Train."""
    kind = kind_of(load_settings(desk.page.home).base)
    eye = gr.Dropdown(_choices(), value=kind, show_label=False, container=False, elem_id="dataset-eye", min_width=200)
    desk.page.seen.change(lambda key: gr.Dropdown(_choices(key), value=key or kind), desk.page.seen, eye, **quiet())
    return eye


def _choices(key: str = "") -> list[tuple[str, str]]:
    also = {key: eye_of(key)} if key else {}
    return [(eye.title, key) for key, eye in (EYES | also).items()]


def build(desk: Desk, eye: gr.Dropdown) -> None:
    """Lay out the shapes of the set."""
    batch = eye_of(str(eye.value)).batch_size
    with gr.Accordion("What the model will see of the set", open=False, elem_id="dataset-shapes"), gr.Row():
        with gr.Column(scale=1, min_width=140):
            size = gr.Number(batch, label="Batch size", minimum=1, precision=0, elem_id="dataset-batch")
        with gr.Column(scale=5, min_width=320):
            shapes = gr.HTML("", elem_id="dataset-histogram", apply_default_css=False)
    shown = [desk.page.dataset, eye, size]
    desk.follow(shapes_html, shown, [shapes])
    size.input(sets.guarded(shapes_html), shown, shapes, **quiet(trigger_mode="always_last"))
    eye.change(lambda key: eye_of(key).batch_size, eye, size, **quiet()).then(shapes_html, shown, shapes, **quiet())


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
    seen = plan([(entry.model_copy(update={"excluded": False}), size)], eye_of(key).options) if size else []
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
    seen += f", one of {len(one.boxes)} parts" if len(one.boxes) > 1 else ""
    if abs(one.scale - 1) < 0.005:
        return seen
    return f"{seen}, enlarged {one.scale:.1f} ×" if one.scale > 1 else f"{seen}, made smaller to {one.scale:.0%}"


def _overlay(one: Shown) -> str:
    """SVG over the picture, in the picture's own pixels."""
    width, height = one.size
    edges = [*zip(*one.boxes, strict=True)]
    left, top, right, bottom = min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])
    dark = f"M0 0H{width}V{height}H0ZM{left:.2f} {top:.2f}V{bottom:.2f}H{right:.2f}V{top:.2f}Z"
    kept = "".join(
        f'<rect class="kept" x="{box[0]:.2f}" y="{box[1]:.2f}" width="{box[2] - box[0]:.2f}" '
        f'height="{box[3] - box[1]:.2f}"/>'
        for box in one.boxes
    )
    focus = one.entry.focus
    point = "" if focus is None else _point(focus[0] * width, focus[1] * height, one.boxes[0])
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f'<path class="dark" fill-rule="evenodd" d="{dark}"/>{kept}{point}</svg>'
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
    shapes: dict[Size, list[Shown]] = {}
    for one in plan(((entry, size) for size, entry in first.items()), eye_of(key).options):
        shapes.setdefault(one.size, []).append(one)
    seen = [(entry, one) for entry, size in sized.items() for one in shapes[size]]
    turns = [turn(album, entry, one.bucket) for entry, one in seen]
    batch = max(1, int(batch_size or 1))
    rows = histogram(turns, batch)
    small = len({entry.id for entry, one in seen if one.scale > 1.005})
    note = f" {sets.count(small, 'picture is', 'pictures are')} enlarged." if small else ""
    steps = f"{steps_per_epoch(turns, batch):g}"
    head = f"<b>{steps}</b> steps in an epoch of {sets.count(len(sized), 'picture')} at batch size {batch}.{note}"
    return f'<div class="report">{head}</div>{bars_html(rows)}'
