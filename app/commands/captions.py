"""`atelier dataset caption`."""

from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.commands.options import DataDir, Json, answer, notes
from app.commands.processes import ask
from trainer.contract.errors import EXIT_STOPPED
from trainer.contract.home import find_dataset, find_home
from trainer.contract.requests import CaptionRequest, Detail, Put

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
Model = Annotated[
    str, typer.Option(help="Hub id or folder of a captioner: Florence-2, BLIP, a chat model, or a WD tagger.")
]
Mode = Annotated[Put, typer.Option(help="missing: for pictures without a caption only; append: as one more caption.")]


def caption(
    name: Annotated[str, typer.Argument(help="One of your sets.")],
    model: Model,
    task: Annotated[Detail, typer.Option(help="How much is said.")] = "auto",
    prompt: Annotated[str, typer.Option(help="Said to the model instead, where it takes one.")] = "",
    mode: Mode = "missing",
    batch: Annotated[int, typer.Option(help="Most pictures at once.", min=1, max=512)] = 8,
    threshold: Annotated[float, typer.Option(help="Least probability of a tag.", min=0.01, max=0.99)] = 0.35,
    character_threshold: Annotated[
        float, typer.Option(help="Least probability of a character's name.", min=0.01, max=0.99)
    ] = 0.85,
    trigger: Annotated[str, typer.Option(help="Word put in front of each caption.")] = "",
    revision: Annotated[str, typer.Option(help="Commit, tag or branch of a model from the Hub.")] = "",
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Take what it wrote before it was stopped, and ask it nothing more.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let a model write the captions of a set; stopped, it goes on from there when it is started again."""
    folder = find_dataset(find_home(data_dir), name)
    request = CaptionRequest(
        dataset=str(folder),
        model=model,
        revision=revision,
        task=task,
        prompt=prompt,
        mode=mode,
        batch=batch,
        threshold=threshold,
        character_threshold=character_threshold,
        trigger=trigger,
        known_only=known_only,
    )
    told = _ask(request)
    for picture, reason in told["skipped"]:
        notes.print(f"[yellow]skipped[/] {picture}: {reason}", soft_wrap=True)
    for notice in told["notices"]:
        notes.print(f"[yellow]{notice}[/]", soft_wrap=True)
    answer(as_json, f"[green]done[/]: {told['changed']} pictures captioned in {folder}", folder=str(folder), **told)


def _ask(request: CaptionRequest) -> dict[str, Any]:
    """Have the trainer do it, with a bar."""
    with Progress(*COLUMNS, console=notes, transient=True) as bar:
        shown = bar.add_task("starting", total=None)
        try:
            return ask(
                "caption",
                request,
                lambda what, done, total: bar.update(shown, description=what, completed=done, total=total or None),
            )
        except KeyboardInterrupt:
            notes.print(
                "stopped; what the model has written is kept, and the same command goes on from there", soft_wrap=True
            )
            raise typer.Exit(EXIT_STOPPED) from None
