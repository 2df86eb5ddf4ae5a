"""The base models that are offered by name, and what can be told of any other."""

import html
from functools import lru_cache
from pathlib import Path

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.formats.bases import BaseFacts, describe_base, find_base, preset_shelf

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
        found = facts(base)
    except UserError as error:
        return f"{html.escape(error.problem.rstrip('.'))}. {html.escape(error.fix)}"
    return html.escape(found.describe() if found else "From the Hub: fetched when it is first used.")


def facts(base: str) -> BaseFacts | None:
    """What the files of a base tell; None where it must be fetched first. A file is read again only when it changed.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    path = find_base(base)
    if path is None or path.is_dir():
        return None if path is None else describe_base(path)
    stamp = path.stat()
    found = _described(path, stamp.st_mtime_ns, stamp.st_size)
    if isinstance(found, UserError):
        raise found
    return found


@lru_cache(maxsize=32)
def _described(path: Path, changed: int, size: int) -> BaseFacts | UserError:
    """The header of a checkpoint is megabytes of JSON, and the form asks at every key."""
    try:
        return describe_base(path)
    except UserError as error:
        return error


def shelf(base: str) -> str:
    """As `preset_shelf`, without reading a file again that was read before."""
    try:
        found = facts(base) if base != "demo" else None
    except UserError:
        return "sd"  # as there: it is still being typed
    return FAMILIES[found.family].shelf if found else preset_shelf(base)
