"""Preview: draw with the base and with adapters, side by side at the same seed; a slider for each strength."""

import html
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from app.preview import Engine, new_id
from app.settings import load_settings
from app.views import adapters, pictures, sets
from app.views.bases import BASES, note_html
from app.views.page import Page, empty, kindly, quiet, say
from trainer.contract.catalog import SAMPLERS
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture, base_settings

ID = "preview"
ROWS = 4
# Gradio tells that a slider was let go after a drag, but not after a key: a key that moves it is let go like a drag.
KEYS = """() => document.addEventListener("keyup", (event) => {
    const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
    if (event.target.matches?.(".adapter-row input[type=range]") && moves.includes(event.key))
        event.target.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
})"""
Drawn = dict[GenerateRequest, str]  # a request with the first adapter only -> the base's picture
# A request with no pictures' strengths yet; the strengths; what is to be said of the adapters' runs.
Wanted = tuple[GenerateRequest, tuple[float, ...], tuple[str, ...]]
START = empty("See what was learned", "Write what to draw, add an adapter and press Draw. Then move its slider.")


@dataclass(frozen=True)
class Row:
    """The components of one adapter."""

    box: gr.Row
    file: gr.Dropdown
    strength: gr.Slider
    remove: gr.Button


@dataclass(frozen=True)
class Controls:
    """The components that a picture depends on."""

    base: gr.Dropdown
    prompt: gr.Textbox
    negative: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.Dropdown
    rows: tuple[Row, ...]

    @property
    def inputs(self) -> set[gr.components.Component]:
        """All of them, for an event that takes them by name."""
        plain = {self.base, self.prompt, self.negative, self.seed, self.steps, self.guidance, self.sampler}
        return plain | {row.file for row in self.rows} | {row.strength for row in self.rows}


def build(page: Page) -> None:
    """Lay out the tab."""
    engine = Engine(page.home)
    drawn: Drawn = {}
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=340):
            controls, draw, add, dice = _controls(page)
        with gr.Column(scale=6, min_width=340):
            bar = gr.HTML(START, elem_id="preview-bar")
            result = gr.ImageSlider(show_label=False, type="filepath", interactive=False, visible=False, max_height=640,
                                    elem_id="preview-result", buttons=["download", "fullscreen"])  # fmt: skip

    def drawing(values: dict[Any, Any], request: gr.Request) -> Iterator[Any]:
        try:
            yield from _draw(page, engine, drawn, _asked(controls, values, page), str(request.session_hash))
        except (UserError, ValidationError) as error:
            say(
                error
                if isinstance(error, UserError)
                else UserError(error.errors()[0]["msg"], str(error.errors()[0]["loc"]), "")
            )
            yield START, gr.skip()

    event: dict[str, Any] = {
        "fn": drawing, "inputs": controls.inputs, "outputs": [bar, result], "show_progress": "hidden",
        "concurrency_limit": None, "trigger_mode": "multiple", "api_visibility": "private",
    }  # fmt: skip
    gr.on([draw.click, controls.prompt.submit, *(row.strength.release for row in controls.rows)], **event)
    dice.click(lambda: random.randrange(2**31), None, controls.seed, **quiet()).then(**event)
    _wire_rows(controls, add, event)
    page.blocks.load(None, None, None, js=KEYS)
    page.on_open(lambda: opened(page), [row.file for row in controls.rows])
    first = controls.rows[0]
    page.adapter.change(
        kindly(lambda path: _invite(page, path)),
        page.adapter,
        [first.file, first.strength, controls.base, controls.prompt],
        **quiet(),
    ).then(**event)


def _controls(page: Page) -> tuple[Controls, gr.Button, gr.Button, gr.Button]:
    with gr.Group():
        prompt = gr.Textbox(label="Prompt", lines=2, placeholder="what to draw", elem_id="preview-prompt")
        base = gr.Dropdown(
            BASES,
            value=load_settings(page.home).base,
            label="Base model",
            allow_custom_value=True,
            elem_id="preview-base",
        )
        note = gr.HTML(note_html(load_settings(page.home).base), padding=False)
    base.change(note_html, base, note, **quiet())
    with gr.Group():
        rows = tuple(_row(page, number) for number in range(ROWS))
        add = gr.Button("Add another adapter", size="md", elem_id="preview-add")
    draw = gr.Button("Draw", variant="primary", size="lg", elem_id="preview-draw")
    with gr.Accordion("More", open=False):
        negative = gr.Textbox(label="Negative prompt", placeholder="what to keep out", elem_id="preview-negative")
        with gr.Row():
            seed = gr.Number(
                42, label="Seed", precision=0, minimum=0, info="Same seed, same picture.", elem_id="preview-seed"
            )
            dice = gr.Button("Another seed", elem_id="preview-dice", min_width=110)
        steps = gr.Slider(1, 60, 20, step=1, label="Steps", info="More take longer and change little after 20 to 30.")
        guidance = gr.Slider(1, 15, 5, step=0.5, label="Guidance", info="How strictly the prompt is followed.")
        sampler = gr.Dropdown(list(SAMPLERS), value="DPM++ 2M", label="Sampler")
    return Controls(base, prompt, negative, seed, steps, guidance, sampler, rows), draw, add, dice


def _row(page: Page, number: int) -> Row:
    with gr.Row(visible=number == 0, elem_classes="adapter-row") as box:
        file = gr.Dropdown([], label="Adapter", value=None, min_width=150, scale=3, elem_id=f"preview-file-{number}")
        strength = gr.Slider(
            -2, 2, 1, step=0.05, label="Strength", min_width=170, scale=4, elem_id=f"preview-strength-{number}"
        )
        remove = gr.Button(
            "✕", size="sm", min_width=36, scale=0, elem_id=f"preview-remove-{number}", elem_classes="cross"
        )
    return Row(box, file, strength, remove)


def _wire_rows(controls: Controls, add: gr.Button, event: dict[str, Any]) -> None:
    """Show one more row, or empty and hide one; the row at the top always stays."""
    opened = gr.Textbox("0", visible="hidden")
    boxes = [row.box for row in controls.rows]

    def more(text: str) -> Any:
        numbers = {int(part) for part in text.split()}
        free = next((number for number in range(ROWS) if number not in numbers), None)
        now = numbers | ({free} if free is not None else set())
        button = gr.Button(interactive=len(now) < ROWS)
        return " ".join(map(str, sorted(now))), button, *(gr.Row(visible=number in now) for number in range(ROWS))

    def less(text: str, number: int) -> Any:
        now = {int(part) for part in text.split()} - ({number} if number else set())
        return " ".join(map(str, sorted(now))), gr.Button(interactive=True), gr.Row(visible=number in now), None, 1

    add.click(more, opened, [opened, add, *boxes], **quiet())
    for number, row in enumerate(controls.rows):
        row.remove.click(
            lambda text, number=number: less(text, number),
            opened,
            [opened, add, row.box, row.file, row.strength],
            **quiet(),
        )


def _invite(page: Page, path: str) -> Any:
    """Take an adapter that another tab sends: on the base it was trained on, with a prompt of its own pictures."""
    if not path:
        return gr.skip()
    found = adapters.find(page.home, path)
    listed = gr.Dropdown(adapters.choices(page.home), value=path)
    if found.run is None:
        return listed, 1, gr.skip(), gr.skip()
    config = found.run.config()
    texts = sets.captions(Path(config.dataset.path))[:20]
    prompt = next(filter(None, [*config.sampling.prompts, *texts, config.dataset.trigger]), "a picture")
    return listed, 1, config.model.base, prompt


def _asked(controls: Controls, values: dict[Any, Any], page: Page) -> Wanted:
    """Turn what stands in the page into what is wanted."""
    pairs = [(values[row.file], float(values[row.strength])) for row in controls.rows if values[row.file]]
    for path, _ in pairs:
        adapters.find(page.home, path)
    if not str(values[controls.prompt] or "").strip():
        raise UserError("there is no prompt", "Prompt", "Write what to draw, a few words are enough.")
    base = str(values[controls.base]).strip()
    picture = Picture(
        prompt=values[controls.prompt], negative=values[controls.negative] or "", seed=int(values[controls.seed] or 0),
        strengths=(0.0,) * len(pairs),
    )  # fmt: skip
    opened, notices = base_settings(base, [Path(path) for path, _ in pairs])
    request = GenerateRequest(
        id=new_id(), base=base, opened=opened,
        adapters=tuple(path for path, _ in pairs), pictures=(picture,),
        steps=int(values[controls.steps]), guidance=values[controls.guidance], sampler=values[controls.sampler],
        out=str(pictures.cache(page.home) / "preview"),
    )  # fmt: skip
    return request, tuple(strength for _, strength in pairs), notices


def _draw(page: Page, engine: Engine, drawn: Drawn, asked: Wanted, slot: str) -> Iterator[Any]:
    """Draw base and result; the base's picture is kept, so that a slider draws one picture only."""
    plain, strengths, about_runs = asked
    picture = plain.pictures[0]
    alone = picture.model_copy(update={"strengths": ()})
    # The first adapter stays in it: the engine takes the clip skip from there.
    key = plain.model_copy(update={"id": "", "adapters": plain.adapters[:1], "pictures": (alone,)})
    known = drawn.get(key, "")
    base = known if known and Path(known).exists() else ""
    wanted = [] if base else [picture]
    wanted += [picture.model_copy(update={"strengths": strengths})] if strengths else []
    if wanted:
        request = plain.model_copy(update={"pictures": tuple(wanted)})
        Path(request.out).mkdir(parents=True, exist_ok=True)
        yield _bar("Getting ready …", 0), gr.skip()
        for answer in engine.draw(request, slot):
            if answer["kind"] == "progress":
                yield _bar("Drawing", 100 * answer["step"] / max(1, answer["steps"])), gr.skip()
            elif answer["kind"] == "cancelled":
                return
        files, notices = list(answer["files"]), [*about_runs, *answer.get("notices", ())]
        base = base or files[0]
        result = files[-1]
    else:
        result, notices = base, list(about_runs)
    while len(drawn) >= 50:
        drawn.pop(next(iter(drawn)))
    drawn[key] = base
    yield _caption(strengths, notices), gr.ImageSlider((base, result), visible=True)


def _bar(words: str, share: float) -> str:
    fill = f'<div class="fill" style="width:{share:.0f}%"></div>'
    return f'<div class="run"><div class="head">{words}</div><div class="track">{fill}</div></div>'


def _caption(strengths: tuple[float, ...], notices: list[str]) -> str:
    """HTML: what is on the left and on the right, and what the engine wants known."""
    right = (
        "with adapters at " + ", ".join(f"{value:g}" for value in strengths)
        if strengths
        else "no adapter yet: add one on the left"
    )
    told = "".join(f'<div class="hint">{html.escape(notice)}</div>' for notice in notices)
    values = " ".join(map(str, strengths))
    return f'<div class="sides" data-strengths="{values}"><b>base</b><b>{right}</b></div>{told}'


def opened(page: Page) -> tuple[Any, ...]:
    """Values for the lists of adapters, each time the tab is opened."""
    return tuple(gr.Dropdown(adapters.choices(page.home)) for _ in range(ROWS))
