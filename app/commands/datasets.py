"""`atelier dataset import` and `atelier dataset check`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from app.commands.options import DataDir, Json, answer, console, notes
from trainer.contract.home import find_dataset, find_home
from trainer.contract.names import safe_name
from trainer.pictures.folder import scan
from trainer.pictures.importing import import_pictures


def import_(
    name: Annotated[str, typer.Argument(help="Name of the set; pictures are added to it if it is there.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, folders, zips.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy pictures and captions into a set of yours; your own files are never changed."""
    folder = find_home(data_dir) / "datasets" / safe_name(name)
    with Progress(console=notes, transient=True) as bar:
        task = bar.add_task("importing", total=None)
        report = import_pictures(paths, folder, lambda done, total: bar.update(task, completed=done, total=total))
    told = {key: list(value) for key, value in asdict(report).items()}
    for item in report.rejected:
        notes.print(f"[yellow]rejected[/] {item.source}: {item.reason}", soft_wrap=True)
    counts = f"{len(report.accepted)} accepted, {len(report.duplicates)} duplicates, {len(report.rejected)} rejected"
    answer(as_json, f"[green]done[/]: {counts} in {folder}", folder=str(folder), **told)


def check(
    name: Annotated[str, typer.Argument(help="One of your sets, or a folder.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Look at every picture and caption of a set as training would."""
    folder = find_dataset(find_home(data_dir), name)
    found = scan(folder)
    without = [record.path.name for record in found.records if not record.caption]
    if as_json:
        skipped = [[str(item.path), item.reason] for item in found.skipped]
        answer(True, "", folder=str(folder), pictures=len(found.records), without_caption=without, skipped=skipped)
        return
    table = Table("picture", "size", "caption", title=f"{len(found.records)} pictures in {folder}")
    for record in found.records:
        table.add_row(record.path.name, f"{record.size[0]}x{record.size[1]}", record.caption or "[yellow]none[/]")
    console.print(table)
    for item in found.skipped:
        console.print(f"[yellow]skipped[/] {item.path.name}: {item.reason}", soft_wrap=True)
