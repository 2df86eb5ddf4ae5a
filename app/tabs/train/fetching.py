"""A base that is on the Hub only: fetched by a process of its own, which any page finds again."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs import fetching
from app.jobs.beside import State
from app.jobs.fetching import Fetching
from app.views.bases import wanting
from app.views.page import Page, kindly, quiet
from trainer.contract.preflight import about

PLAIN = "The run fetches it when it starts, too; here one sees how far it is, and it can be stopped and resumed."


def build(page: Page, base: gr.Dropdown) -> None:
    """Lay out the panel; it is there only for a base that has to be fetched."""
    with gr.Column(visible=False, elem_id="train-fetch") as panel:
        told = gr.HTML("", elem_id="fetch-told", padding=False)
        with gr.Row(elem_classes="tight"):
            begin = gr.Button("Download it now", size="md", elem_id="fetch-start")
            end = gr.Button("Stop", size="md", variant="stop", visible=False, elem_id="fetch-stop")
    seen = gr.Textbox("", visible="hidden")  # what is shown, in short
    shown = [seen, panel, told, begin, end]

    def look(name: str | None, before: str = "") -> Any:
        name = (name or "").strip()
        missing = wanting(name)
        found = fetching.look(page.home, name) if missing else Fetching()
        now = f"{name} {missing} {found}"
        if now == before:
            return gr.skip()
        running = found.state is State.RUNNING
        again = "Resume the download" if found.state not in (State.NONE, State.RUNNING) else "Download it now"
        buttons = gr.Button(again, visible=not running), gr.Button(visible=running)
        return now, gr.Column(visible=missing), state_html(name, found), *buttons

    def started(name: str | None) -> Any:
        fetching.start(page.home, (name or "").strip())
        return look(name)

    def stopped(name: str | None) -> Any:
        fetching.stop(page.home, (name or "").strip())
        return look(name)

    base.change(look, [base, seen], shown, **quiet())
    page.pulse.beat(look, [base, seen], shown, trigger_mode="once", **quiet())
    begin.click(kindly(started), base, shown, **quiet(trigger_mode="once"))
    end.click(kindly(stopped), base, shown, **quiet(trigger_mode="once"))


def state_html(name: str, found: Fetching) -> str:
    """HTML: how far a download is, or why it ended."""
    if found.state is State.NONE:
        return f'<div class="base-note">{PLAIN}</div>'
    words = {
        State.RUNNING: "is being fetched",
        State.STOPPED: "was stopped; what came is kept",
        State.LOST: "was interrupted; what came is kept",
        State.FAILED: "could not be fetched",
        State.DONE: "is here",
    }[found.state]
    progress = found.progress
    total, done = (progress.total, progress.done) if progress else (0, 0)
    figures = (
        [f"<b>{done / 1e9:.2f}</b> of {total / 1e9:.2f} GB", html.escape(progress.what)] if progress and total else []
    )
    figures += [f"<b>{about(progress.left)}</b> left"] if progress and progress.left and found.error is None else []
    note = f'<div class="notice">{html.escape(str(found.error))}</div>' if found.error else ""
    return (
        f'<div class="run" data-state="{found.state.value}"><div class="head"><b>{html.escape(Path(name).name)}</b> '
        f'{words}</div><div class="track"><div class="fill" style="width:{100 * done / total if total else 0:.1f}%">'
        f'</div></div><div class="figures">{"".join(f"<span>{figure}</span>" for figure in figures)}</div>{note}</div>'
    )
