"""`atelier inspect` and `atelier export`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.images import parse_adapter
from app.commands.options import DataDir, Json, answer, console
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.home import find_home
from trainer.contract.rundir import find_run
from trainer.formats.base_layers import given_base
from trainer.formats.clients.numbers import measure
from trainer.formats.clients.report import Report, report
from trainer.formats.clients.verdict import LOADS, LOSSES
from trainer.formats.header import read_header, shown
from trainer.formats.inspect import inspect as look
from trainer.formats.named import choose, copy_as, file_of
from trainer.formats.peft_file import as_peft
from trainer.pictures.bundle import write_bundle


class Layout(NamedTuple):
    """A form that an adapter leaves in.

    Attributes:
        suffix: of the file.
        words: what it is for.
        write: makes the second file of the first; may tell more.
    """

    suffix: str
    words: str
    write: Callable[[Path, Path], dict[str, Any] | None]


def _diffusers(source: Path, target: Path) -> None:
    write_atomic(target, as_peft(source.read_bytes(), target.stem))


LAYOUTS = {
    "kohya": Layout(".safetensors", "the names that every client loads", copy_as),
    "diffusers": Layout("-diffusers.safetensors", "the names of diffusers and PEFT", _diffusers),
    "bundle": Layout(
        ".zip", "a zip with everything beside it", lambda source, target: {"holds": write_bundle(source, target)}
    ),
}

LONG = 1000  # signs of a line


def inspect(
    file: Annotated[Path, typer.Argument(help="An adapter file.")],
    base: Annotated[str, typer.Option(help="Base it is held against; without it the one that takes most of it.")] = "",
    as_json: Json = False,
) -> None:
    """Say what an adapter file holds, for which base, and what other programs will do with it."""
    given = given_base(base) if base else None
    header = read_header(file)
    seen = look(file, given, header)
    found: dict[str, Any] = seen.as_dict()
    conformance = report(file, digest=seen.hash, given=given, header=header)
    if as_json:
        answer(True, "", **found, conformance=conformance.as_dict())
        return
    table = Table("", "", title=escape(shown(file.name)), show_header=False)
    for key, value in found.items():
        if key != "unmatched":  # may be thousands; `fit` names them folded
            lines = value if isinstance(value, list | tuple) else [value]
            table.add_row(key.replace("_", " "), "\n".join(escape(shown(str(line), LONG)) for line in lines))
    console.print(table)
    _print(conformance)


def _print(conformance: Report) -> None:
    """A row for each client, then what is true in all of them."""
    table = Table(
        "", "client", "applied", "what it does", title=escape(f"In other programs, on {shown(conformance.base)}")
    )
    colours = {LOADS: "green", LOSSES: "yellow"}
    for verdict in conformance.verdicts:
        colour = colours.get(verdict.outcome, "red")
        applied = f"{verdict.applied} of {verdict.applied + verdict.left_out}"
        table.add_row(f"[{colour}]{verdict.mark}[/]", verdict.client, applied, escape(shown(verdict.sentence, LONG)))
    console.print(table)
    for note in (*conformance.notes, *conformance.measured()):
        console.print(f"- {shown(note, LONG)}", markup=False)


def export(
    what: Annotated[str, typer.Argument(metavar="RUN_OR_FILE", help="A run, or an adapter file.")],
    format_: Annotated[str, typer.Option("--format", help=f"File layout: {', '.join(LAYOUTS)}.")] = "kohya",
    step: Annotated[
        int | None, typer.Option(help="The run's file of that save. Alone it makes it the chosen one, NAME-best.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take an adapter file where you want it, in the layout you want."""
    if format_ not in LAYOUTS:
        known = "; ".join(f"{name}: {layout.words}" for name, layout in LAYOUTS.items())
        raise UserError(f"'{format_}' is no file layout", "--format", f"There are {known}.")
    home, layout, values = find_home(data_dir), LAYOUTS[format_], {"format": format_}
    if step is None:
        source, _ = parse_adapter(home, what)
    else:
        run = find_run(home, what)
        source = file_of(run, step)
        if format_ == "kohya" and out is None:
            best = choose(run, source)
            answer(as_json, f"[green]chosen[/]: step {step} is {best}", **values, file=str(best), step=step)
            return
    target = (out or Path(f"{source.stem}{layout.suffix}")).absolute()
    if os.path.lexists(target):
        raise UserError("there is a file already; nothing is overwritten", str(target), "Give another --out.")
    _check_numbers(source)
    values |= layout.write(source, target) or {}
    answer(as_json, f"[green]done[/]: {escape(str(target))}", **values, file=str(target))


def _check_numbers(file: Path) -> None:
    """Raise UserError where some of a file's numbers are none: it would make black pictures wherever it is taken."""
    found = measure(file, read_header(file))
    if found.nan or found.infinite:
        problem = f"{found.nan} of its numbers are NaN and {found.infinite} infinite, the first in {found.broken[0]}"
        raise UserError(problem, str(file), "Take an earlier save of the training, or download it again.")
