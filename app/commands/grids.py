"""`atelier sweep` and `atelier grid`: tables of pictures, drawn by the trainer in as few passes as may be."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.commands.images import (
    ClipSkip,
    Guidance,
    PredictionType,
    Revision,
    Sampler,
    Seed,
    Size,
    Steps,
    Vae,
    ZeroTerminalSnr,
    how_drawn,
    opened_for,
    parse_adapter,
    show_notices,
)
from app.commands.options import Base, DataDir, Json, about_base, answer, notes
from app.commands.processes import OnProgress, ask
from trainer.contract.grids import AXES, OF_FILES, Axis, GridRequest, files_on, parse_axis
from trainer.contract.home import find_home
from trainer.contract.requests import Picture

Folder = Annotated[Path | None, typer.Option(help="Keep the single pictures here too.")]
Out = Annotated[Path, typer.Option(help="Where to write the table.")]
AXIS_HELP = f"KIND=VALUE,VALUE; kinds: {', '.join(AXES)}. Values with commas are parted by |."


def sweep(
    prompt: Annotated[list[str], typer.Option(help="What to draw; a row for each. Repeatable.")],
    adapter: Annotated[str, typer.Option(help="Adapter file, or a run's name.")],
    strengths: Annotated[str, typer.Option(help="Comma-separated; a column for each.")] = "0,0.25,0.5,0.75,1",
    base: Base = "demo",
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    seed: Seed = 42,
    steps: Steps = 20,
    guidance: Guidance = 5.0,
    sampler: Sampler = "DPM++ 2M",
    size: Size = "",
    clip_skip: ClipSkip = 0,
    revision: Revision = None,
    vae: Vae = None,
    prediction: PredictionType = None,
    zero_terminal_snr: ZeroTerminalSnr = None,
    out: Out = Path("sweep.png"),
    folder: Folder = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Draw a table: prompts down, strengths across, all from one seed."""
    about_base(base)
    file, _ = parse_adapter(find_home(data_dir), adapter)
    request = GridRequest(
        id=new_id(),
        base=base,
        opened=opened_for(base, [file], (revision, vae, prediction, zero_terminal_snr)),
        adapters=(str(file),),
        picture=Picture(prompt=prompt[0], negative=negative, seed=seed, strengths=(1.0,)),
        x=parse_axis(f"strength={strengths}"),
        y=Axis(kind="prompt", values=tuple(prompt)),
        **how_drawn(steps, guidance, sampler, size, clip_skip),
        out="",
    )
    draw_table(request, out, folder, as_json)


def grid(
    x: Annotated[str, typer.Option(help=f"What varies across: {AXIS_HELP}")],
    y: Annotated[str, typer.Option(help="What varies down, in the same way.")] = "",
    prompt: Annotated[str, typer.Option(help="What to draw.")] = "",
    adapter: Annotated[
        list[str] | None, typer.Option(help="FILE[:STRENGTH]; a run's name works too. Axes are about the first.")
    ] = None,
    base: Base = "demo",
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    seed: Seed = 42,
    steps: Steps = 20,
    guidance: Guidance = 5.0,
    sampler: Sampler = "DPM++ 2M",
    size: Size = "",
    clip_skip: ClipSkip = 0,
    revision: Revision = None,
    vae: Vae = None,
    prediction: PredictionType = None,
    zero_terminal_snr: ZeroTerminalSnr = None,
    out: Out = Path("grid.png"),
    folder: Folder = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Draw a table of any two things that may vary, such as `--x strength=0,0.5,1 --y sampler=Euler,DDIM`."""
    home = find_home(data_dir)
    about_base(base)
    axes = [_with_files(home, parse_axis(text)) for text in (x, y) if text]
    chosen = [parse_adapter(home, text) for text in adapter or []]
    of_files = [Path(file) for file in files_on(axes)]
    chosen = chosen or [(file, 1.0) for file in of_files[:1]]
    files = [file for file, _ in chosen]
    request = GridRequest(
        id=new_id(),
        base=base,
        opened=opened_for(base, [*files, *of_files], (revision, vae, prediction, zero_terminal_snr)),
        adapters=tuple(map(str, files)),
        picture=Picture(prompt=prompt, negative=negative, seed=seed, strengths=tuple(one for _, one in chosen)),
        x=axes[0],
        y=axes[1] if y else None,
        **how_drawn(steps, guidance, sampler, size, clip_skip),
        out="",
    )
    draw_table(request, out, folder, as_json)


def _with_files(home: Path, axis: Axis) -> Axis:
    """The names of files and runs on an axis of adapters as paths."""
    if axis.kind not in OF_FILES:
        return axis
    found = tuple(str(parse_adapter(home, value)[0]) if value else "" for value in axis.values)
    return axis.model_copy(update={"values": found})


def draw_table(request: GridRequest, out: Path, folder: Path | None, as_json: bool) -> None:
    """Have a grid drawn with a bar, and say where it is."""
    told = with_bar(request, out, folder)
    show_notices(told["notices"])
    more = {"files": told["files"]} if folder else {}
    text = f"[green]done[/]: {out.resolve()}" + (f", and {told['pictures']} pictures in {folder}" if folder else "")
    answer(as_json, text, file=str(out.resolve()), pictures=told["pictures"], **more)


def with_bar(request: GridRequest, out: Path, folder: Path | None) -> dict[str, Any]:
    """As `drawn_table`, with a bar for a person."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        shown = bar.add_task("loading", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        return drawn_table(request, out, folder, tell)


def drawn_table(
    request: GridRequest, out: Path, folder: Path | None = None, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Have a grid drawn: the sheet to `out`, the cells to `folder`; return what the trainer said."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder.resolve() if folder else Path(temporary)
        told = ask("grid", request.model_copy(update={"out": str(place)}), on_progress)
        out.resolve().parent.mkdir(parents=True, exist_ok=True)
        shutil.move(told["file"], out.resolve())
    return told


def new_id() -> str:
    """A name for a grid that no other has."""
    return f"grid-{time.time_ns()}"
