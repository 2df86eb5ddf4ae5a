"""`atelier recommend`: which strength of an adapter comes nearest to what it was taught, by a sweep that is judged."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.table import Table

from app.commands.grids import new_id, with_bar
from app.commands.images import opened_for, parse_adapter
from app.commands.options import DataDir, Json, about_base, answer, console
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.grids import Axis, GridRequest
from trainer.contract.home import find_home
from trainer.contract.requests import Picture
from trainer.contract.rundir import run_of
from trainer.formats.metadata import preferring
from trainer.pictures.album import locate, open_album
from trainer.pictures.captions import with_trigger
from trainer.pictures.decode import open_picture
from trainer.pictures.likeness import Advice, advise

STRENGTHS = ("0", "0.25", "0.5", "0.7", "0.85", "1", "1.2", "1.5")
MOST_TAUGHT, LEAST_TAUGHT = 64, 2  # pictures of the set that are looked at


def recommend(
    what: Annotated[str, typer.Argument(metavar="RUN_OR_FILE", help="A finished run, or an adapter file.")],
    dataset: Annotated[Path | None, typer.Option(help="Its pictures, where they are not those of its run.")] = None,
    base: Annotated[str, typer.Option(help="Base model; as its run was trained on.")] = "",
    prompts: Annotated[int, typer.Option(help="Captions of the set that are drawn.", min=1, max=16)] = 6,
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1, max=200)] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.", min=0)] = 42,
    write: Annotated[bool, typer.Option("--write", help="Write the strength into the file.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Keep the table of pictures here.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Draw the set's own captions at several strengths, and say which looks most like the set, and why."""
    home = find_home(data_dir)
    file, _ = parse_adapter(home, what)
    run = run_of(file)
    config = run.config() if run else None
    folder = dataset or (Path(config.dataset.path) if config else None)
    if folder is None:
        raise UserError("this file is of no run here", str(file), "Say where its pictures are: --dataset FOLDER.")
    base = base or (config.model.base if config else "demo")
    about_base(base)
    taught, texts = taught_of(folder, prompts)
    request = GridRequest(
        id=new_id(),
        base=base,
        opened=opened_for(base, [file], (None,) * 4),
        adapters=(str(file),),
        picture=Picture(prompt=texts[0], seed=seed, strengths=(1.0,)),
        x=Axis(kind="strength", values=STRENGTHS),
        y=Axis(kind="prompt", values=texts),
        steps=steps,
        out="",
    )
    with tempfile.TemporaryDirectory() as temporary:
        told = with_bar(request, sheet or Path(temporary) / "sheet.png", Path(temporary))
        advice = judged([Path(one) for one in told["files"]], taught)
    written = write and advice.strength is not None
    if advice.strength is not None and written:
        write_atomic(file, preferring(file.read_bytes(), advice.strength, advice.reason))
    said = {"strength": advice.strength, "shares": dict(advice.shares), "reason": advice.reason, "written": written}
    if not as_json:
        console.print(_shown(advice))
    answer(as_json, advice.reason + (f" Written into {file}." if written else ""), file=str(file), **said)


def taught_of(folder: Path, prompts: int) -> tuple[list[Image.Image], tuple[str, ...]]:
    """Pictures of a set, and some of its captions as they are trained, spread over it.

    Raises:
        UserError: the set cannot be read, or there is too little in it.
    """
    album = open_album(folder)
    entries = [one for one in album.entries if not one.excluded and not album.concept_of(one).regularisation]
    if len(entries) < LEAST_TAUGHT:
        raise UserError(f"{len(entries)} pictures are too few to compare with", str(folder), "Give a whole set.")
    called = [(next(iter(one.captions), ""), album.concept_of(one).trigger) for one in entries]
    texts = [with_trigger(text, trigger) if trigger else text for text, trigger in called]
    known = list(dict.fromkeys(filter(None, texts)))
    if not known:
        raise UserError("the set has no captions to draw", str(folder), "Write captions, or a trigger word.")
    some = entries[:: max(1, len(entries) // MOST_TAUGHT)][:MOST_TAUGHT]
    return [open_picture(locate(folder, one.file)) for one in some], tuple(known[:: -(-len(known) // prompts)])


def judged(files: Sequence[Path], taught: Sequence[Image.Image]) -> Advice:
    """What the cells of the grid say, row by row."""
    sweep: dict[float, list[Image.Image]] = {float(strength): [] for strength in STRENGTHS}
    for number, file in enumerate(files):
        with Image.open(file) as image:
            sweep[float(STRENGTHS[number % len(STRENGTHS)])].append(image.convert("RGB"))
    return advise(sweep, taught)


def _shown(advice: Advice) -> Table:
    table = Table("strength", "of the way to the set", "")
    for strength, share in advice.shares.items():
        mark = " ←" if strength == advice.strength else ""
        table.add_row(f"{strength:g}", f"{share:.0%}", "█" * round(30 * max(0.0, share)) + mark)
    return table
