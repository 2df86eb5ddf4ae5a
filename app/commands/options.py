"""Options that several commands share, and how commands answer."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", envvar="ATELIER_HOME", help="Folder of your sets, runs and library.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Base = Annotated[str, typer.Option(help="Base model: `demo`, a diffusers folder, or a Hub id.")]

PRACTICE = "practice base: files made with it work only here"
console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


def answer(as_json: bool, text: str, **values: Any) -> None:
    """Say how it went: an object for scripts, a text for people."""
    if as_json:
        text = json.dumps({"ok": True, **values}, default=str)
        # A file's own number may be none, and JSON has no word for that: what Python writes other programs cannot read.
        typer.echo(json.dumps(json.loads(text, parse_constant=str)))
    else:
        console.print(text, soft_wrap=True)


def about_base(base: str) -> None:
    """Warn that files of the embedded base are for practice."""
    if base == "demo":
        notes.print(f"[yellow]{PRACTICE}[/]")
