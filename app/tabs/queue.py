"""Queue: every run in its state and order, the page of the one that is open, and runs laid over each other."""

from typing import Any

import gradio as gr

from app.jobs import queue
from app.views import card, compare, live, rows, toolbar
from app.views.page import Page, empty, kindly, quiet

ID = "queue"
EMPTY = empty("Nothing is queued", "Runs that you start in the Train tab line up here, one after the other.")
# The address names the run that is open while this tab is: a link and a reload open it again.
ADDRESS = """run => setTimeout(() => {
    const here = document.querySelector("#tab-queue-button")?.getAttribute("aria-selected") === "true";
    const address = new URL(location);
    if (here && run) address.searchParams.set("run", run);
    else if (!here) address.searchParams.delete("run");
    if (address.href !== location.href) history.replaceState(history.state, "", address);
}, 50) && undefined"""
ASKED = "run => [new URLSearchParams(location.search).get('run') ?? run]"


def build(page: Page) -> None:
    """Lay out the tab."""
    opened = page.blocks.load(lambda name: _opened(page, name), page.run, [page.run, page.tabs], js=ASKED, **quiet())
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=340):
            nothing = gr.HTML(EMPTY)
            trash = toolbar.build_bin(page)
            listed = gr.HTML("", elem_id="queue-rows", js_on_load=rows.SCRIPT, apply_default_css=False)
            versus = gr.Button("Compare runs", size="md", elem_id="queue-versus", visible=False)
            others = gr.HTML("")
        with gr.Column(scale=8, min_width=380):
            live.build(page, opened, trash)
    compare.build(page, versus)
    seen = gr.Textbox("", visible="hidden")

    def act(event: gr.EventData) -> Any:
        return _act(page, str(event.act), str(event.run))

    update: dict[str, Any] = {
        "fn": lambda *values: _look(page, *values), "inputs": [page.run, seen],
        "outputs": [seen, nothing, listed, versus, others], **quiet(),
    }  # fmt: skip
    page.pulse.beat(trigger_mode="once", **update)
    page.run.change(trigger_mode="always_last", **update)
    opened.then(**update)
    listed.act(kindly(act), None, page.run, **quiet()).then(**update)
    for event in (page.run.change, page.tabs.change):
        event(None, page.run, None, js=ADDRESS)


def _opened(page: Page, name: str) -> Any:
    """Open the run that the address names."""
    if not name:
        return gr.skip()
    if queue.known(page.home, name) is None:
        gr.Warning("It may have been deleted, or belong to somebody else.", title="There is no such run")
        return "", gr.skip()
    return name, gr.Tabs(selected=ID)


def _act(page: Page, act: str, name: str) -> Any:
    """What a button of a row asks for; returns the run that is to be open."""
    if act == "open":
        return name
    if act == "resume":
        toolbar.resume_row(page, name)
    else:
        toolbar.do(page, act, name)
    return gr.skip()  # not the run that was open: another may have been opened since


def _look(page: Page, name: str, last: str) -> Any:
    items = queue.entries(page.home)
    listed, others = rows.rows_html(items, name), card.others_html(item.status.pid for item in items)
    now = f"{len(items)}{hash((listed, others))}"
    if now == last:
        return gr.skip()
    return now, gr.HTML(visible=not items), listed, gr.Button(visible=len(items) > 1), others
