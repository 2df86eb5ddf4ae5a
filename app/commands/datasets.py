"""`atelier dataset import`, `export` and `check`."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from app.commands.options import DataDir, Json, answer, console, notes
from trainer.contract.errors import UserError
from trainer.contract.home import find_dataset, find_home
from trainer.contract.names import safe_name
from trainer.pictures.album import open_album
from trainer.pictures.decode import READABLE
from trainer.pictures.doctor import apply as apply_fix
from trainer.pictures.doctor import examine
from trainer.pictures.exporting import export_pictures
from trainer.pictures.findings import Finding, Findings, Options
from trainer.pictures.gather import Skipped, no_picture
from trainer.pictures.importing import ImportOptions, import_pictures

SHOWN = 5  # pictures of a finding in the table; --json has all
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


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
    if not report.accepted and not report.duplicates:
        reasons = [f"{item.source}: {item.reason}" for item in report.rejected[:SHOWN]]
        raise UserError("Nothing was imported.", ", ".join(map(str, paths)), "\n".join(reasons or [READABLE + "."]))
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
    resolution: Annotated[int, typer.Option(min=64, help="Side of the square that it is meant for, in pixels.")] = 512,
    trigger: Annotated[str, typer.Option(help="Trigger word, where the set has none.", show_default=False)] = "",
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Put a finding right; the Dataset tab can take it back.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Look at every picture and caption of a set as training would, and say what would make it train badly."""
    folder = find_dataset(find_home(data_dir), name)
    options = Options(resolution=resolution, trigger=trigger)
    found = _examine(folder, options)
    fixed = _apply(folder, found, fix or [])
    found = _examine(folder, options) if fixed else found
    if not found.pictures and not found.excluded:
        raise no_picture(folder, open_album(folder), [Skipped(*item) for item in found.skipped])
    album = open_album(folder)
    names = {entry.id: entry.name for entry in album.entries}
    if as_json:
        without = [entry.name for entry in album.entries if entry.id in found.sizes and not any(entry.captions)]
        skipped = [[str(path), reason] for path, reason in found.skipped]
        listed = [_as_object(finding, names) for finding in found.findings]
        counts = {"pictures": found.pictures, "excluded": found.excluded}
        answer(
            True,
            "",
            folder=str(folder),
            **counts,
            without_caption=without,
            skipped=skipped,
            findings=listed,
            fixed=fixed,
        )
        return
    for label in fixed:
        console.print(f"[green]done[/]: {escape(label)}", soft_wrap=True)
    left_out = f", {found.excluded} left out" if found.excluded else ""
    if found.findings:
        console.print(_as_table(found.findings, names))
    count = len(found.findings)
    verdict = f"{count} finding{'s' * (count > 1)}" if count else "[green]nothing to complain of[/]"
    console.print(f"{found.pictures} pictures in {escape(str(folder))}{left_out}: {verdict}", soft_wrap=True)


def _examine(folder: Path, options: Options) -> Findings:
    with Progress(console=notes, transient=True) as bar:
        task = bar.add_task("looking", total=None)
        return examine(folder, options, lambda done, total: bar.update(task, completed=done, total=total))


def _apply(folder: Path, found: Findings, kinds: list[str]) -> list[str]:
    """Make the first fix of each finding that was asked for; return what was done."""
    curable = {finding.kind: finding.fixes[0] for finding in found.findings if finding.fixes}
    for kind in kinds:
        if kind not in curable:
            known = ", ".join(curable) or "nothing was found that can be fixed"
            raise UserError(f"There is no finding '{kind}' that can be fixed in this set.", "--fix", f"Here: {known}.")
    chosen = [curable[kind] for kind in dict.fromkeys(kinds)]
    for fix in chosen:
        apply_fix(folder, fix)
    return [fix.label for fix in chosen]


def _as_object(finding: Finding, names: dict[str, str]) -> dict[str, object]:
    told = {key: getattr(finding, key) for key in ("kind", "severity", "title", "why", "about")}
    pictures = [{"id": each, "name": names[each], "value": value} for each, value in finding.value.items()]
    groups = [[names[each] for each in group] for group in finding.groups]
    return {**told, "pictures": pictures, "groups": groups, "fixes": [fix.label for fix in finding.fixes]}


def _as_table(findings: Iterable[Finding], names: dict[str, str]) -> Table:
    table = Table("finding", "pictures", "--fix", show_lines=True)
    for finding in findings:
        shown = [f"{names[each]}: {value}" for each, value in list(finding.value.items())[:SHOWN]]
        rest = len(finding.value) - len(shown)
        lines = [*filter(None, [finding.about]), *shown, *([f"and {rest} more"] if rest else [])]
        about = f"[{COLOURS[finding.severity]}]{escape(finding.title)}[/]\n{escape(finding.why)}"
        cure = f"{finding.kind}: {finding.fixes[0].label}" if finding.fixes else ""
        table.add_row(about, escape("\n".join(lines)), escape(cure))
    return table
