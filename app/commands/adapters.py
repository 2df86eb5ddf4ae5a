"""`atelier inspect` and `atelier export`."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.images import parse_adapter
from app.commands.options import DataDir, Json, answer, console
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.formats.clients.report import Report, report
from trainer.formats.clients.verdict import LOADS, LOSSES
from trainer.formats.inspect import inspect as look


def inspect(file: Annotated[Path, typer.Argument(help="An adapter file.")], as_json: Json = False) -> None:
    """Say what an adapter file holds, for which base, and what other programs will do with it."""
    found: dict[str, Any] = look(file).as_dict()
    conformance = report(file)
    if as_json:
        answer(True, "", **found, conformance=conformance.as_dict())
        return
    table = Table("", "", title=file.name, show_header=False)
    for key, value in found.items():
        table.add_row(
            key.replace("_", " "), "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        )
    console.print(table)
    _print(conformance)


def _print(conformance: Report) -> None:
    """A row for each client, then what is true in all of them."""
    table = Table("", "client", "applied", "what it does", title=f"In other programs, on {conformance.base}")
    colours = {LOADS: "green", LOSSES: "yellow"}
    for verdict in conformance.verdicts:
        colour = colours.get(verdict.outcome, "red")
        applied = f"{verdict.applied} of {verdict.applied + verdict.left_out}"
        table.add_row(f"[{colour}]{verdict.mark}[/]", verdict.client, applied, escape(verdict.sentence))
    console.print(table)
    for note in (*conformance.notes, *conformance.measured()):
        console.print(f"- {note}", markup=False)


def export(
    what: Annotated[str, typer.Argument(metavar="RUN_OR_FILE", help="A finished run, or an adapter file.")],
    format_: Annotated[str, typer.Option("--format", help="File layout: kohya.")] = "kohya",
    out: Annotated[Path | None, typer.Option(help="Where to write it.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy an adapter file to where you want it."""
    if format_ != "kohya":
        raise UserError(f"'{format_}' cannot be written yet", "--format", "There is: kohya, which every client loads.")
    source, _ = parse_adapter(find_home(data_dir), what)
    target = (out or Path(source.name)).resolve()
    if target.exists():
        raise UserError("there is a file already; nothing is overwritten", str(target), "Give another --out.")
    shutil.copyfile(source, target)
    answer(as_json, f"[green]done[/]: {target}", file=str(target))
