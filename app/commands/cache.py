"""`atelier cache`: what is kept of pictures and captions between runs, and how to throw it away."""

from typing import Annotated

import typer

from app.commands.options import DataDir, Json, answer
from trainer.contract.home import find_home
from trainer.contract.latents import LIMIT, free, measure, prune, shelf_of
from trainer.contract.rundir import State, list_runs


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Throw all of it away; it is made again when needed.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Say what is kept of encoded pictures and captions, or throw it away; unfinished runs keep what they use."""
    home = find_home(data_dir)
    shelf = shelf_of(home)
    if clear:
        for run in list_runs(home):
            if run.status().state == State.DONE:
                free(run.cache)  # those that ended in the middle of it
    found = prune(shelf, limit=0) if clear else measure(shelf)
    size = f"{found.files} entries, {found.bytes / 2**20:.1f} MiB"
    text = (
        f"{size} thrown away" if clear else f"{size} (at most {LIMIT / 2**30:.0f} GiB) in {shelf}; --clear empties it"
    )
    if found.linked:
        text += f"; {found.linked / 2**20:.1f} MiB of it stay on the disk for runs that are not done"
    answer(as_json, text, folder=str(shelf), cleared=clear, **found._asdict())
