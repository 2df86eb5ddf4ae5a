"""`atelier ui`, `doctor`, `presets`, `settings`: the page, the machine, and what can be chosen and set."""

from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.options import Base, DataDir, Json, answer, console
from trainer.contract.catalog import CHOICES
from trainer.contract.compose import section_fields
from trainer.contract.config import RunConfig
from trainer.contract.home import find_home
from trainer.contract.presets import load_preset
from trainer.contract.presets import presets as known_presets
from trainer.contract.rules import ONLY_WITH
from trainer.formats.bases import preset_shelf

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]note[/]", "bad": "[red]bad[/]"}


def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; the next free one if not given.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="A public link through Gradio's servers; needs a user.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name by which the page may be called; may be repeated.")
    ] = None,
    login: Annotated[
        bool | None, typer.Option("--login/--no-login", help="Ask for a login here too.", show_default="for others")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Open the app in the browser. An address that others can reach needs a user: `atelier user add NAME`."""
    from app.ui import Way, launch  # noqa: PLC0415 - gradio takes seconds that no other command should cost

    launch(find_home(data_dir), Way(host, port, share, tuple(allow_host or ()), login))


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


def presets(base: Base = "demo", as_json: Json = False) -> None:
    """List the presets for a base: when to use which, what it takes, and where its numbers come from."""
    shelf = preset_shelf(base)
    found = {name: load_preset(name, shelf) for name in known_presets(shelf)}
    if as_json:
        told = {
            name: {
                **(preset.about.model_dump() if preset.about else {}),
                "seconds": {length: round(preset.seconds(length)) for length in preset.lengths},
                "lengths": preset.lengths,
                "settings": preset.layer,
            }
            for name, preset in found.items()
        }
        answer(True, "", presets=told)
        return
    for name, preset in found.items():
        if about := preset.about:
            console.print(f"[bold]{name}[/]  {escape(about.when)}\n{preset.time_words()}. {escape(about.memory)}.")
            console.print(f"{escape(about.source)}\n", style="dim")


def settings(as_json: Json = False) -> None:
    """List every setting for --set and presets, with its range and default."""
    rows = [
        (f"{section}.{key}", field)
        for section in RunConfig.model_fields
        for key, field in section_fields(section).items()
    ]
    if as_json:
        told = {
            name: {"default": _default(field), "help": field.description, "range": _range(name, field),
                   "counts": [rule.words() for rule in ONLY_WITH if rule.setting == name]}
            for name, field in rows
        }  # fmt: skip
        answer(True, "", settings=told)
        return
    table = Table("setting", "default", "range", "help", title="settings")
    for name, field in rows:
        counts = [f"Counts {rule.words()}." for rule in ONLY_WITH if rule.setting == name]
        table.add_row(name, str(_default(field)), _range(name, field), " ".join([field.description or "", *counts]))
    console.print(table)


def _default(field: Any) -> Any:
    return "(needed)" if field.is_required() else field.default


def _range(name: str, field: Any) -> str:
    """What a setting may be: the names of its catalogue, or bounds and words."""
    if name in CHOICES:
        return ", ".join(CHOICES[name])
    marks = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{marks[mark]} {value}"
        for item in field.metadata
        for mark in marks
        if (value := getattr(item, mark, None)) is not None
    ]
    return ", ".join([*bounds, *_words(field.annotation)])


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]
