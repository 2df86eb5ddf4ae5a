"""`atelier dataset import`, `export` and `check`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from app.commands.options import DataDir, Json, answer, console, notes
from trainer.contract.home import find_dataset, find_home
from trainer.contract.names import safe_name
from trainer.pictures.exporting import export_pictures
from trainer.pictures.folder import scan
from trainer.pictures.importing import ImportOptions, import_pictures


def import_(
    name: Annotated[str, typer.Argument(help="Name of the set; pictures are added to it if it is there.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, folders, zips.")],
    reference: Annotated[bool, typer.Option("--reference", help="Leave the pictures where they are.")] = False,
    background: Annotated[str, typer.Option(help="Colour behind transparent parts.")] = "#ffffff",
    concept: Annotated[str, typer.Option(help="Concept that these pictures are of.", show_default=False)] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy pictures and captions into a set of yours; your own files are never changed."""
    folder = find_home(data_dir) / "datasets" / safe_name(name)
    options = ImportOptions(reference, background, concept)
    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), RateColumn(), console=notes, transient=True
    ) as bar:
        task = bar.add_task("importing", total=None)
        report = import_pictures(
            paths,
            folder,
            options=options,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    told = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(report).items()}
    for item in report.rejected:
        notes.print(f"[yellow]rejected[/] {escape(f'{item.source}: {item.reason}')}", soft_wrap=True)
    for note in report.notes:
        notes.print(f"[cyan]note[/] {escape(note)}", soft_wrap=True)
    counts = f"{len(report.accepted)} accepted, {len(report.duplicates)} duplicates, {len(report.rejected)} rejected"
    sentence = (
        f"[green]done[/]: {report.seen} pictures seen: {counts}; {report.others} other files; in {escape(str(folder))}"
    )
    answer(as_json, sentence, folder=str(folder), seen=report.seen, **told)


class RateColumn(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        """The rate so far, once there is one."""
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


def export(
    name: Annotated[str, typer.Argument(help="One of your sets, or a folder.")],
    out: Annotated[Path, typer.Option(help="The zip to write.", show_default="NAME.zip")] = Path(),
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write a set as a zip: pictures under their own names, captions as `.txt` beside them."""
    folder = find_dataset(find_home(data_dir), name)
    target = out if out != Path() else Path(f"{folder.name}.zip")
    count = export_pictures(folder, target)
    answer(as_json, f"[green]done[/]: {count} pictures in {escape(str(target))}", file=str(target), pictures=count)


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
