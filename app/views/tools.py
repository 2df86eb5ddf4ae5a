"""The tools for the adapter that is chosen in the Library: how much of its rank it uses; resize, merge, convert."""

import html
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from pydantic import ValidationError

from app import owners
from app.jobs import tooling
from app.views import adapters
from app.views.page import Page, quiet, say
from trainer.contract.errors import UserError
from trainer.contract.names import safe_name
from trainer.contract.requests import Progress
from trainer.contract.tools import AnalyzeRequest, ConvertRequest, MergeRequest, ResizeRequest, ToolRequest, Weighted

NAMES = [("kohya: every program", "kohya"), ("diffusers (PEFT)", "diffusers"), ("plain LoRA, by SVD", "lora")]
TYPES = [("as it is", "auto"), *((name, name) for name in ("fp16", "bf16", "fp32"))]
BASE = "Where the file does not tell, and for DoRA and OFT: folder, checkpoint or Hub id."
WORST, SEEN = 3, 0.01  # layers that are named, if their error is at least this
_AS_BEFORE = (gr.skip(),) * 3  # the file that was made, the analysis and its plot


def build(page: Page, chosen: gr.Textbox) -> tuple[gr.Accordion, gr.Textbox]:
    """Lay out the tools.

    Args:
        page: see `Page`.
        chosen: path of the adapter that is chosen.

    Returns:
        The whole part, and a hidden box that changes to the path of a file that was made.
    """
    made = gr.Textbox("", visible="hidden", elem_id="tools-made")
    with gr.Accordion("Tools", open=False, visible=False, elem_id="library-tools") as whole:
        base = gr.Textbox("", label="Base", info=BASE, elem_id="tools-base")
        with gr.Tabs(elem_id="tools-tabs"):
            with gr.Tab("Analysis", id="analysis"):
                look, plot, advice = _analysis()
            with gr.Tab("Resize", id="resize"):
                resize, resizing = _resizing()
            with gr.Tab("Merge", id="merge"):
                merge, merging = _merging(page)
            with gr.Tab("Convert", id="convert"):
                convert, converting = _converting()
        told = gr.HTML("", elem_id="tools-told", padding=False)
        stop = gr.Button("Stop", visible=False, size="md", elem_id="tools-stop")
    work = gr.State("")  # the name of what is being done, by which it is stopped
    shown = [stop, work, told, made, plot, advice]
    options: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 2}
    for button, command, request_of, asked in (
        (look, "analyze", _analyze_request, []),
        (resize, "resize", _resize_request, resizing),
        (merge, "merge", _merge_request, merging),
        (convert, "convert", _convert_request, converting),
    ):
        button.click(_maker(page, command, request_of), [chosen, base, *asked], shown, **options)
    page.blocks.load(partial(_again, page), None, [whole, *shown], **quiet())
    stop.click(lambda name: tooling.stop(page.home, name), work, None, **quiet())
    chosen.change(lambda path: (gr.Accordion(visible=bool(path)), "", None, "", _others(page, path)), chosen,
                  [whole, told, plot, advice, merging[0]], **quiet())  # fmt: skip
    return whole, made


def _analysis() -> tuple[gr.Button, gr.LinePlot, gr.HTML]:
    button = gr.Button("Analyse", variant="primary", elem_id="tools-analyze")
    plot = gr.LinePlot(x="rank", y="energy", color="layers", title="Energy that a rank keeps", x_title="rank",
                       y_title="share of the energy", color_title=" ", height=240, show_label=False, y_lim=[0, 1],
                       elem_id="tools-plot")  # fmt: skip
    return button, plot, gr.HTML("", elem_id="tools-advice", padding=False)


def _resizing() -> tuple[gr.Button, list[Any]]:
    by = gr.Radio([("a rank", "rank"), ("energy kept", "energy")], value="rank", label="By", elem_id="tools-by")
    rank = gr.Slider(1, 128, 16, step=1, label="Rank", elem_id="tools-rank")
    energy = gr.Slider(0.5, 0.999, 0.95, step=0.001, label="Share of the energy that every layer keeps", visible=False,
                       elem_id="tools-energy")  # fmt: skip
    by.change(lambda way: (gr.Slider(visible=way == "rank"), gr.Slider(visible=way == "energy")), by, [rank, energy],
              **quiet())  # fmt: skip
    return gr.Button("Resize", variant="primary", elem_id="tools-resize"), [by, rank, energy]


def _merging(page: Page) -> tuple[gr.Button, list[Any]]:
    others = gr.Dropdown([], multiselect=True, label="With", elem_id="tools-others", allow_custom_value=False)
    strengths = gr.Textbox("1", label="Strengths", elem_id="tools-strengths",
                           info="This one's, then the others', such as 1, 0.5; may be negative.")  # fmt: skip
    rank = gr.Number(0, precision=0, minimum=0, maximum=4096, label="Rank", elem_id="tools-merge-rank",
                     info="0: ranks side by side, exact. Otherwise by SVD, the error is told.")  # fmt: skip
    into = gr.Textbox("", label="Into a base", elem_id="tools-into",
                      info="Empty for an adapter. Otherwise a copy of this base is written to bases/.")  # fmt: skip
    return gr.Button("Merge", variant="primary", elem_id="tools-merge"), [others, strengths, rank, into]


def _converting() -> tuple[gr.Button, list[Any]]:
    to = gr.Radio(NAMES, value="kohya", label="To", elem_id="tools-to")
    dtype = gr.Radio(TYPES, value="auto", label="Number type", elem_id="tools-dtype")
    return gr.Button("Convert", variant="primary", elem_id="tools-convert"), [to, dtype]


def _others(page: Page, path: str) -> gr.Dropdown:
    choices = [(name, value) for name, value in adapters.choices(page.home) if value != path]
    return gr.Dropdown(choices, value=[])


def _analyze_request(page: Page, path: str, base: str) -> AnalyzeRequest:
    return AnalyzeRequest(file=path, base=base.strip())


def _resize_request(page: Page, path: str, base: str, by: str, rank: float, energy: float) -> ResizeRequest:
    words = f"rank{rank:.0f}" if by == "rank" else f"{energy:.1%}".rstrip("%").replace(".", "-")
    out = _free(page.home / "library", f"{Path(path).stem}-{words}", ".safetensors")
    size = {"rank": int(rank)} if by == "rank" else {"energy": energy}
    return ResizeRequest(file=path, base=base.strip(), out=str(out), **size)


def _merge_request(
    page: Page, path: str, base: str, others: Sequence[str], strengths: str, rank: float, into: str
) -> MergeRequest:
    files = [path, *others]
    try:
        numbers = [float(part) for part in strengths.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"'{strengths}' is no list of numbers", "Strengths", "Write such as 1, 0.5.") from None
    numbers += [1.0] * (len(files) - len(numbers))
    if len(numbers) > len(files):
        problem = f"{len(numbers)} strengths for {len(files)} adapters"
        raise UserError(problem, "Strengths", "Give one for this adapter, then one for each of the others.")
    names, into = "+".join(Path(file).stem for file in files), into.strip()
    suffix = ".safetensors" if not into or into.endswith(".safetensors") else ""
    out = _free(page.home / ("bases" if into else "library"), f"{Path(into).stem}-{names}" if into else names, suffix)
    chosen = tuple(Weighted(file=file, strength=number) for file, number in zip(files, numbers, strict=True))
    wanted = None if into or not rank else int(rank)
    return MergeRequest(adapters=chosen, base=base.strip(), rank=wanted, into=into, out=str(out))


def _convert_request(page: Page, path: str, base: str, to: Any, dtype: Any) -> ConvertRequest:
    out = _free(page.home / "library", f"{Path(path).stem}-{to}", ".safetensors")
    return ConvertRequest(file=path, base=base.strip(), to=to, dtype=dtype, out=str(out))


def _free(folder: Path, stem: str, suffix: str) -> Path:
    name, number = safe_name(stem), 2
    path = folder / f"{name}{suffix}"
    while path.exists():
        path, number = folder / f"{name}-{number}{suffix}", number + 1
    return path


def _maker(page: Page, command: str, request_of: Callable[..., ToolRequest]) -> Callable[..., Iterator[Any]]:
    """A callback that has something done, telling how far it is."""

    def make(path: str, *asked: Any) -> Iterator[Any]:
        try:
            name = tooling.begin(page.home, command, request_of(page, path, *asked))
        except (UserError, ValidationError) as error:
            yield *_idle(), _refused(error), *_AS_BEFORE
        else:
            yield from _following(page, name)

    return make


def _again(page: Page) -> Iterator[Any]:
    """Take up what is being done when the page is loaded: it goes on while nobody looks."""
    if not (name := tooling.running(page.home)):
        yield [gr.skip()] * 7
        return
    for found in _following(page, name):
        yield gr.Accordion(open=True), *found


def _following(page: Page, name: str) -> Iterator[Any]:
    """The button that stops it and its name; what is said, the file that was made, and an analysis."""
    try:
        for said in tooling.follow(page.home, name):
            if isinstance(said, Progress):
                yield gr.Button(visible=True), name, _said_html(said), *_AS_BEFORE
            elif "advice" not in said:
                owners.sign(Path(said["file"]))
                yield *_idle(), _said_html(said), said["file"], gr.skip(), gr.skip()
            else:
                listed = "".join(f"<li>{html.escape(line)}</li>" for line in (*said["advice"], *said["notices"]))
                done = f'<div class="report" data-state="done"><ul>{listed}</ul></div>'
                yield *_idle(), "", gr.skip(), _spectrum(said), done
            if not isinstance(said, Progress):
                return
    except UserError as error:
        yield *_idle(), _refused(error), *_AS_BEFORE
        return
    yield *_idle(), "", *_AS_BEFORE


def _idle() -> tuple[gr.Button, str]:
    """Nothing is there to be stopped."""
    return gr.Button(visible=False), ""


def _spectrum(said: dict[str, Any]) -> pd.DataFrame:
    """The share that a rank keeps: of all layers, and of the layers that need most and least of it."""
    layers = sorted(said["layers"], key=lambda layer: layer["needed"] / max(1, layer["rank"]))
    lines = [("all layers", said["kept"])]
    if len(layers) > 1:
        lines += [("needs least", layers[0]["kept"]), ("needs most", layers[-1]["kept"])]
    rows = [(rank, share, name) for name, kept in lines for rank, share in enumerate((0.0, *kept))]
    return pd.DataFrame(rows, columns=["rank", "energy", "layers"])


def _refused(error: UserError | ValidationError) -> str:
    found = error if isinstance(error, UserError) else UserError(str(error.errors()[0]["msg"]), "", "Change it.")
    say(found)
    return f'<div class="notice" data-state="failed">{html.escape(str(found))}</div>'


def _said_html(said: Progress | dict[str, Any]) -> str:
    """HTML: how far it is, or what came of it."""
    if isinstance(said, Progress):
        share = f": {said.done} of {said.total}" if said.total else ""
        far = f' value="{said.done}" max="{said.total or 1}"'
        return (
            f'<div class="report" data-state="running">{html.escape(said.what)}{share}<progress{far}></progress></div>'
        )
    lines = list(said["notices"])
    size = f"{said['bytes'] / 2**20:.1f} MB"
    if "error" in said:
        low, high = said["ranks"]
        size += f", {said['dtype']}, rank {high}" if low == high else f", {said['dtype']}, ranks {low} to {high}"
        lines.insert(0, f"Relative error {said['error']:.2e} in all, at most {said['largest_error']:.2e} in a layer.")
        seen = [layer for layer in said["layers"] if layer["error"] >= SEEN]
        worst = sorted(seen, key=lambda layer: -layer["error"])[:WORST]
        lines += [f"{layer['name']}: rank {layer['rank']}, error {layer['error']:.2e}" for layer in worst]
    else:
        lines.insert(0, f"{said['changed']} layers of the base are changed. It is in {Path(said['file']).parent}.")
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    name = html.escape(Path(said["file"]).name)
    return f'<div class="report" data-state="done">{name} is written ({size}).<ul>{listed}</ul></div>'
