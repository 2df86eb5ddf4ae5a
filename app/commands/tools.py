"""`atelier analyze`, `resize`, `merge` and `convert`: adapter files made of adapter files."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ValidationError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.commands.images import parse_adapter
from app.commands.options import DataDir, Json, answer, console, notes
from app.commands.processes import ask
from trainer.contract.errors import EXIT_STOPPED, UserError
from trainer.contract.home import find_home
from trainer.contract.tools import AnalyzeRequest, ConvertRequest, Form, MergeRequest, ResizeRequest, Stored
from trainer.formats.header import shown

SHOWN = 12  # layers of a table
LONG = 1000  # signs of a line
LONGEST = 100  # signs of a name that is made of others

File = Annotated[str, typer.Argument(metavar="FILE", help="An adapter file, a file of the library, or a run's name.")]
Base = Annotated[str, typer.Option(help="Its base, where the file does not tell, and for DoRA and OFT.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the matrices are worked on.")]
Dtype = Annotated[Stored, typer.Option(help="Number type of the file; auto: as the sources.")]
Out = Annotated[Path | None, typer.Option(help="Where to write it; nothing is overwritten.")]
RankOption = Annotated[int | None, typer.Option(help="Largest rank of a layer.", min=1, max=4096)]


def analyze(
    file: File, base: Base = "", device: Device = "auto", data_dir: DataDir = None, as_json: Json = False
) -> None:
    """Say how much of its rank an adapter uses, and what follows for the next training."""
    path, _ = parse_adapter(find_home(data_dir), file)
    told = _ask("analyze", AnalyzeRequest(file=str(path), base=base, device=device))
    _warn(told)
    if as_json:
        answer(True, "", **told)
        return
    console.print(_spectrum(told), _strongest(told))
    for line in told["advice"]:
        console.print(f"- {escape(line)}", soft_wrap=True)


def resize(
    file: File,
    rank: RankOption = None,
    energy: Annotated[
        float | None, typer.Option(help="Share of its energy that every layer keeps, such as 0.95.", min=0.01, max=1)
    ] = None,
    out: Out = None,
    dtype: Dtype = "auto",
    base: Base = "",
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write an adapter with a smaller rank: of every layer the best of that rank, the error measured on the file."""
    if (rank is None) == (energy is None):
        raise UserError("a rank or an energy is needed", "--rank", "Give --rank N, or --energy 0.95.")
    path, _ = parse_adapter(find_home(data_dir), file)
    target = _target(out, f"{path.stem}-rank{rank}" if rank else f"{path.stem}-{energy:.0%}".replace("%", "pc"))
    request = ResizeRequest(
        file=str(path), rank=rank, energy=energy, out=str(target), dtype=dtype, base=base, device=device
    )
    _done(_ask("resize", request), as_json)


def merge(
    adapters: Annotated[list[str], typer.Argument(metavar="FILE[:STRENGTH]...", help="Adapters and their strengths.")],
    rank: Annotated[
        int | None, typer.Option(help="Rank to merge to by SVD; without it ranks stand side by side.", min=1, max=4096)
    ] = None,
    into: Annotated[str, typer.Option(metavar="BASE", help="Build them into this base: folder or checkpoint.")] = "",
    out: Out = None,
    dtype: Dtype = "auto",
    base: Base = "",
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Merge adapters into one: exactly, or by SVD to a rank with its error; or build them into a copy of a base."""
    home = find_home(data_dir)
    chosen = [parse_adapter(home, text) for text in adapters]
    if into and rank:
        raise UserError("a base has no rank", "--rank", "Leave out --rank or --into.")
    if into and dtype != "auto":
        raise UserError("a base keeps its own number type", "--dtype", "Leave it out.")
    names = "+".join(path.stem for path, _ in chosen)
    suffix = "" if into and Path(into).suffix != ".safetensors" else ".safetensors"
    target = _target(out, f"{Path(into).stem}-{names}" if into else f"{names}-merged", suffix)
    request = _made(
        MergeRequest,
        adapters=[{"file": str(path), "strength": strength} for path, strength in chosen],
        rank=rank,
        into=into,
        out=str(target),
        dtype=dtype,
        base=base,
        device=device,
    )
    told = _ask("merge", request)
    if not into:
        _done(told, as_json)
        return
    _warn(told)
    text = f"[green]done[/]: {escape(told['file'])} ({told['bytes'] / 2**20:.0f} MB, {told['changed']} layers changed)"
    answer(as_json, text, **told)


def convert(
    file: File,
    to: Annotated[Form, typer.Option(help="Names of kohya or of diffusers; lora: a plain LoRA of another method.")],
    rank: RankOption = None,
    out: Out = None,
    dtype: Dtype = "auto",
    base: Base = "",
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write an adapter under other names, in another number type, or as a plain LoRA with the error of every layer."""
    path, _ = parse_adapter(find_home(data_dir), file)
    kind = to if dtype == "auto" else f"{to}-{dtype}"
    request = ConvertRequest(
        file=str(path), to=to, rank=rank, out=str(_target(out, f"{path.stem}-{kind}")), dtype=dtype, base=base,
        device=device,
    )  # fmt: skip
    _done(_ask("convert", request), as_json)


def _made(kind: Any, **values: Any) -> Any:
    try:
        return kind(**values)
    except ValidationError as error:
        found = error.errors()[0]
        raise UserError(str(found["msg"]), ".".join(map(str, found["loc"])), "See atelier merge --help.") from None


def _target(out: Path | None, stem: str, suffix: str = ".safetensors") -> Path:
    target = (out or Path(f"{stem[:LONGEST]}{suffix}")).expanduser().absolute()
    if os.path.lexists(target):
        raise UserError("there is something already; nothing is overwritten", str(target), "Give another --out.")
    return target


def _ask(command: str, request: BaseModel) -> dict[str, Any]:
    """Have the trainer do it, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        shown = bar.add_task("starting", total=None)
        try:
            return ask(
                command,
                request,
                lambda what, done, total: bar.update(shown, description=what, completed=done, total=total or None),
            )
        except KeyboardInterrupt:
            notes.print("stopped; nothing was written")
            raise typer.Exit(EXIT_STOPPED) from None


def _warn(told: dict[str, Any]) -> None:
    for notice in told["notices"]:
        notes.print(f"[yellow]{escape(shown(notice, LONG))}[/]", soft_wrap=True)


def _done(told: dict[str, Any], as_json: bool) -> None:
    """What was written, and how far it is from what was asked."""
    _warn(told)
    if not as_json and told["layers"]:
        table = Table("layer", "rank", "error", title="Layers with the largest error")
        for layer in sorted(told["layers"], key=lambda one: -one["error"])[:SHOWN]:
            table.add_row(escape(shown(layer["name"])), str(layer["rank"]), f"{layer['error']:.2e}")
        console.print(table)
    low, high = told["ranks"]
    ranks = f"rank {high}" if low == high else f"ranks {low} to {high}"
    size = f"{told['bytes'] / 2**20:.1f} MB, {told['dtype']}"
    error = f"relative error {told['error']:.2e}, at most {told['largest_error']:.2e} in a layer"
    answer(as_json, f"[green]done[/]: {escape(told['file'])} ({ranks}, {size}; {error})", **told)


def _spectrum(told: dict[str, Any]) -> Table:
    table = Table("rank", "energy", "", title=f"{escape(Path(told['file']).name)}: energy kept by a rank")
    kept = told["kept"]
    marks = sorted({1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, len(kept), *told["needed"].values()})
    for rank in (mark for mark in marks if mark <= len(kept)):
        share = kept[rank - 1]
        table.add_row(str(rank), f"{share:.1%}", "█" * round(40 * share))
    return table


def _strongest(told: dict[str, Any]) -> Table:
    table = Table("layer", "norm", "rank", "95 % in rank", title="Strongest layers")
    for layer in told["layers"][:SHOWN]:
        table.add_row(escape(shown(layer["name"])), f"{layer['norm']:.3f}", str(layer["rank"]), str(layer["needed"]))
    return table
