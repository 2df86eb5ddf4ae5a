"""`atelier ui`, `doctor`, `settings`: the page, the machine, and what can be set."""

from typing import Annotated, Any

import typer
from rich.table import Table

from app.commands.options import DataDir, Json, answer, console
from trainer.contract.compose import section_fields
from trainer.contract.config import RunConfig
from trainer.contract.home import find_home

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]note[/]", "bad": "[red]bad[/]"}


def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; the next free one if not given.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Refused until there is a login.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Open the app in the browser."""
    from app.ui import launch  # noqa: PLC0415 - gradio takes seconds that no other command should cost

    launch(find_home(data_dir), host, port, share)


def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Look at this machine and say what to do."""
    from dataclasses import asdict  # noqa: PLC0415

    from app.doctor import examine, worst  # noqa: PLC0415

    findings = examine(find_home(data_dir))
    if as_json:
        answer(True, "", findings=[asdict(finding) for finding in findings], worst=worst(findings))
        return
    table = Table("", "what", "found", "what to do", title="atelier doctor")
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.name, finding.found, finding.fix)
    console.print(table)


def settings(as_json: Json = False) -> None:
    """List every setting for --set and presets, with its range and default."""
    rows = [
        (f"{section}.{key}", field)
        for section in RunConfig.model_fields
        for key, field in section_fields(section).items()
    ]
    if as_json:
        answer(
            True, "", settings={name: {"default": _default(field), "help": field.description} for name, field in rows}
        )
        return
    table = Table("setting", "default", "range", "help", title="settings")
    for name, field in rows:
        table.add_row(name, str(_default(field)), _range(field), field.description or "")
    console.print(table)


def _default(field: Any) -> Any:
    return "(needed)" if field.is_required() else field.default


def _range(field: Any) -> str:
    marks = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return ", ".join(
        f"{marks[name]} {value}"
        for item in field.metadata
        for name in marks
        if (value := getattr(item, name, None)) is not None
    )
