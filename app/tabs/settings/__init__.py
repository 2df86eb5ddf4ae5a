"""Settings: whether this machine is ready, the look, the base, other programs, the Hub's cache, users, places."""

import html
from importlib import metadata
from typing import Any

import gradio as gr

from app import owners
from app.doctor import Finding, examine, in_text
from app.settings import change_settings, load_settings
from app.tabs.settings import hub, people, programs
from app.views import bases
from app.views.page import Page, kindly, quiet
from trainer.formats.bases import check_base

ID = "settings"
SIGNS = {"ok": "✓", "warn": "!", "bad": "✕"}
LOOK = "(t) => { const dark = t === 'dark' || (t === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);" \
       " document.body.classList.toggle('dark', dark); return t; }"  # fmt: skip


def build(page: Page) -> None:
    """Lay out the tab."""
    keeper = owners.bounded() is None  # where there is a login, it shows when an admin is seen to look
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=6, min_width=340):
            gr.Markdown("### Is this machine ready?")
            findings = gr.HTML('<div class="hint">Looking …</div>', elem_id="settings-doctor")
            again = gr.Button("Look again", size="md", elem_id="settings-again")
            with gr.Accordion("Report to copy", open=False):
                text = gr.Textbox("", lines=10, max_lines=24, interactive=False, buttons=["copy"], show_label=False,
                                  elem_id="settings-report", placeholder="Looking …")  # fmt: skip
            with gr.Column(visible=keeper, elem_id="settings-cache") as cache:
                shows = [hub.build(page)]
        with gr.Column(scale=4, min_width=320):
            theme, base = _looks(page)
            with gr.Column(visible=keeper, elem_id="settings-machine") as machine:
                shows.append(programs.build(page))
            gr.Markdown("### Users")
            shows.append(people.build(page))
            gr.Markdown("### Where things are")
            gr.HTML(_places(page), elem_id="settings-places")

    def looked() -> tuple[str, str]:
        found = examine(page.home)
        return _findings(found), in_text(found, _version("lora-atelier"))

    def for_keepers() -> list[gr.Column]:
        return [gr.Column(visible=owners.bounded() is None)] * 2

    page.tab.select(looked, None, [findings, text], **quiet())
    page.tab.select(lambda: gr.Dropdown(bases.choices(page.home)), None, base, **quiet())
    page.blocks.load(for_keepers, None, [cache, machine], **quiet())
    for show, outputs in shows:
        page.tab.select(show, None, outputs, **quiet())
    again.click(looked, None, [findings, text], api_visibility="private", show_progress="minimal")
    page.blocks.load(shows[-1][0], None, shows[-1][1], **quiet())
    page.blocks.load(lambda: load_settings(page.home).theme, None, theme, **quiet()).then(None, theme, theme, js=LOOK)


def _looks(page: Page) -> tuple[gr.Radio, gr.Dropdown]:
    """The look of the page, and the base that a new training begins with."""
    settings = load_settings(page.home)
    theme = gr.Radio(["system", "light", "dark"], label="Look", value=settings.theme, elem_id="settings-theme")
    base = gr.Dropdown(bases.choices(page.home), label="Base model to begin with", value=settings.base,
                       allow_custom_value=True, elem_id="settings-base",
                       info="Of a new training and of Preview; the one that was used last.")  # fmt: skip

    def keep_base(chosen: str | None) -> Any:
        wanted = (chosen or "").strip()
        if owners.bounded() is None and wanted and wanted != load_settings(page.home).base:
            check_base(wanted)
            change_settings(page.home, base=wanted)
            gr.Info("A new training begins with it.")

    def keep_theme(value: str) -> str:
        if owners.bounded() is None:  # of the machine; others see theirs until they load the page again
            change_settings(page.home, theme=value)
        return value

    theme.input(keep_theme, theme, theme, js=LOOK, **quiet())
    base.change(kindly(keep_base), base, None, **quiet())
    page.blocks.load(lambda: load_settings(page.home).base, None, base, **quiet())
    return theme, base


def _findings(found: list[Finding]) -> str:
    """HTML: what the doctor found, with what to do."""
    rows = []
    for finding in found:
        fix = f"<em>{html.escape(finding.fix)}</em>" if finding.fix else ""
        rows.append(
            f'<tr class="{finding.state}"><td class="sign">{SIGNS[finding.state]}</td>'
            f"<th>{html.escape(finding.name)}</th>"
            f"<td>{html.escape(finding.found)}{fix}</td></tr>"
        )
    return f'<div class="facts doctor"><table>{"".join(rows)}</table></div>'


def _places(page: Page) -> str:
    """HTML: where things lie, and which version this is."""
    rows: list[tuple[str, Any]] = [
        ("your data", page.home), ("pictures", page.home / "datasets"), ("runs", page.home / "runs"),
        ("adapters", page.home / "library"), ("trash", page.home / ".trash"),
        ("LoRA Atelier", _version("lora-atelier")),
    ]  # fmt: skip
    listed = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    return f'<div class="facts"><table>{listed}</table></div>'


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "from a checkout"
