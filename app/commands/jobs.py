"""`atelier pause`, `delete`, `restore`: what the Queue tab does with a run, from a terminal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from app.commands.options import DataDir, Json, answer
from app.jobs import queue
from app.jobs.model import ENDING, Shown
from trainer.contract.errors import UserError
from trainer.contract.home import find_home

RunName = Annotated[str, typer.Argument(help="Name of the run.")]
PATIENCE_SECONDS = 60.0


def pause(run: RunName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a run save and free the card; it waits until it is resumed. One that waits for its turn is held back."""
    home = find_home(data_dir)
    said, deadline = queue.pause(home, run), time.monotonic() + PATIENCE_SECONDS
    while (now := queue.entry(home, run)).shown in (*ENDING, Shown.STARTING) and time.monotonic() < deadline:
        time.sleep(0.1)
    text = f"{run} is paused; go on with: atelier resume {run}" if now.shown is Shown.PAUSED else said
    answer(as_json, text, name=run, shown=now.shown, step=now.status.step)


def delete(run: RunName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Move a run that is not running to the trash folder; `atelier restore` brings it back."""
    place = queue.remove(find_home(data_dir), run)
    answer(as_json, f"{run} is in the trash; bring it back with: atelier restore {run}", name=run, trash=str(place))


def restore(run: RunName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Bring back the run of that name that was deleted last."""
    home = find_home(data_dir)
    name = queue.restore(home, _last_deleted(home, run))
    answer(as_json, f"{name} is back", name=name, run=str(home / "runs" / name))


def _last_deleted(home: Path, name: str) -> Path:
    found = [path for path in queue.trash(home).glob("*.*") if queue.name_of(path) == name]
    if not found:
        known = ", ".join(sorted({queue.name_of(path) for path in queue.trash(home).glob("*.*")})[:8]) or "nothing"
        raise UserError(f"'{name}' is not in the trash", str(queue.trash(home)), f"There: {known}.")
    return max(found, key=lambda path: int(path.suffix[1:]))
