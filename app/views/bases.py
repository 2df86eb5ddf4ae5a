"""The base models that are offered by name, and what can be told of any other."""

import html

from trainer.contract.errors import UserError
from trainer.formats.bases import describe_base, find_base

BASES = [
    ("Practice base (built in, no download)", "demo"),
    ("Stable Diffusion 1.5 (downloads about 4 GB once)", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    (
        "Stable Diffusion XL (downloads about 7 GB once)",
        "stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors",
    ),
]
_PRACTICE = "<b>Practice base:</b> small and quick, to see how it goes. Files made with it work only here."


def note_html(base: str | None) -> str:
    """HTML: what one should know of a base: its kind as its files tell it, or why it cannot be used."""
    if not base or not base.strip():
        return ""
    return f'<div class="base-note">{_PRACTICE if base == "demo" else _told(base.strip())}</div>'


def _told(base: str) -> str:
    try:
        path = find_base(base)
        said = "From the Hub: fetched when it is first used." if path is None else describe_base(path).describe()
    except UserError as error:
        return f"{html.escape(error.problem)}. {html.escape(error.fix)}"
    return html.escape(said)
