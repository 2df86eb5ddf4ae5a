"""Settings: whether this machine is ready, where things lie, the look of the page."""

import html
from importlib import metadata
from typing import Any

import gradio as gr

from app.doctor import examine
from app.settings import change_settings, load_settings
from app.views.page import Page, quiet

ID = "settings"
SIGNS = {"ok": "✓", "warn": "!", "bad": "✕"}
LOOK = "(t) => { const dark = t === 'dark' || (t === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);" \
       " document.body.classList.toggle('dark', dark); return t; }"  # fmt: skip


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=6, min_width=340):
            gr.Markdown("### Is this machine ready?")
            findings = gr.HTML('<div class="hint">Looking …</div>', elem_id="settings-doctor")
            again = gr.Button("Look again", size="md", elem_id="settings-again")
        with gr.Column(scale=4, min_width=300):
            theme = gr.Radio(
                ["system", "light", "dark"],
                label="Look",
                value=load_settings(page.home).theme,
                elem_id="settings-theme",
            )
            gr.HTML(_places(page), elem_id="settings-places")
    page.tab.select(lambda: _findings(page), None, findings, api_visibility="private", show_progress="hidden")
    again.click(lambda: _findings(page), None, findings, api_visibility="private", show_progress="minimal")
    theme.input(lambda value: change_settings(page.home, theme=value).theme, theme, theme, js=LOOK, **quiet())
    page.blocks.load(lambda: load_settings(page.home).theme, None, theme, **quiet()).then(None, theme, theme, js=LOOK)


def _findings(page: Page) -> str:
    """HTML: what the doctor found, with what to do."""
    rows = []
    for finding in examine(page.home):
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
