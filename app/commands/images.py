"""`atelier generate`, and what all commands that draw have in common."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.options import Base, DataDir, Json, about_base, answer, notes
from app.commands.processes import ask
from trainer.contract.config import Prediction, Switch
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.requests import BaseSettings, GenerateRequest, Picture, base_settings
from trainer.contract.rundir import find_run, list_runs

Seed = Annotated[int, typer.Option(help="Same seed, same picture.", min=0)]
Steps = Annotated[int, typer.Option(help="Denoising steps.", min=1, max=200)]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance scale.", min=1, max=30)]
Sampler = Annotated[str, typer.Option(help="Sampler.")]
ClipSkip = Annotated[
    int, typer.Option(min=0, max=12, help="Text encoder layer from the end; 0: as the first adapter was trained.")
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or branch of a base from the Hub; '' for its main branch.")
]
Vae = Annotated[
    str | None, typer.Option(help="Another VAE: a .safetensors file or a diffusers folder; '' for the base's own.")
]
PredictionType = Annotated[Prediction | None, typer.Option("--prediction", help="What the base's UNet answers.")]
ZeroTerminalSnr = Annotated[Switch | None, typer.Option(help="Whether the base's last timestep is pure noise.")]
Size = Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels; the base's own size if not given.")]


def generate(
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    base: Base = "demo",
    adapter: Annotated[
        list[str] | None, typer.Option(help="FILE[:STRENGTH]; a run's name works too. Repeatable.")
    ] = None,
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
    out: Annotated[Path, typer.Option(help="Where to write the picture.")] = Path("picture.png"),
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Draw a picture with any number of adapters."""
    home = find_home(data_dir)
    about_base(base)
    chosen = [parse_adapter(home, text) for text in adapter or []]
    picture = Picture(prompt=prompt, negative=negative, seed=seed, strengths=tuple(strength for _, strength in chosen))
    folder = out.resolve().parent
    request = GenerateRequest(
        id=f"drawing-{time.time_ns()}",
        base=base,
        opened=opened_for(base, [file for file, _ in chosen], (revision, vae, prediction, zero_terminal_snr)),
        adapters=tuple(str(file) for file, _ in chosen),
        pictures=(picture,),
        **how_drawn(steps, guidance, sampler, size, clip_skip),
        out=str(folder),
    )
    told = ask("generate", request)
    Path(told["files"][0]).replace(out)
    show_notices(told["notices"])
    answer(as_json, f"[green]done[/]: {out.resolve()}", file=str(out.resolve()), seconds=told["seconds"])


def how_drawn(steps: int, guidance: float, sampler: str, size: str, clip_skip: int) -> dict[str, Any]:
    """What the options say of how all pictures are drawn, as fields of a request. Raises UserError for a wrong size."""
    said = {"steps": steps, "guidance": guidance, "sampler": sampler}
    return {**said, "size": parse_size(size), "clip_skip": clip_skip or None}


def opened_for(base: str, adapters: Sequence[Path], said: tuple[str | None, ...]) -> BaseSettings:
    """How the base is opened: as the adapters' own runs had it, but for what is said; an empty text is the default."""
    names = ("revision", "vae", "prediction", "zero_terminal_snr")
    given = {name: value for name, value in zip(names, said, strict=True) if value is not None}
    opened, notices = base_settings(base, adapters)
    show_notices(notices)
    return opened.model_copy(update=given)


def show_notices(notices: Sequence[str]) -> None:
    """Say what the engine wants known."""
    for notice in notices:
        notes.print(f"[yellow]{notice}[/]")


def parse_adapter(home: Path, text: str) -> tuple[Path, float]:
    """Read FILE[:STRENGTH]; FILE may be a path, a file of the library, a run's name, or one of its files' such as
    NAME-s000750.

    Raises:
        UserError: no such file or run.
    """
    name, strength = text, 1.0
    if found := re.fullmatch(r"(.+):(-?\d+(?:\.\d+)?)", text):  # a Windows path has no number after its colon
        name, strength = found[1], float(found[2])
    for path in (Path(name).expanduser(), home / "library" / name, home / "library" / f"{name}.safetensors"):
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            return path.resolve(), strength
    if "/" in name or "\\" in name or Path(name).suffix:
        raise UserError(
            f"there is no adapter file '{name}'",
            "--adapter",
            "Give a .safetensors file, or the name of a finished run.",
        )
    named = (path for run in list_runs(home) for path in run.adapter_files() if path.stem == name)
    if not (home / "runs" / name).is_dir() and (file := next(named, None)):
        return file.resolve(), strength
    run = find_run(home, name)
    if not run.adapter_file.exists():
        raise UserError(
            f"run '{name}' has no adapter file yet, it is {run.status().state}",
            "--adapter",
            f"Finish it: atelier resume {name}",
        )
    return run.adapter_file, strength


def parse_size(text: str) -> tuple[int, int] | None:
    """Read `512x768`. Raises UserError."""
    if not text:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UserError(f"'{text}' is not a size", "--size", "Example: --size 512x768")
    return int(width), int(height)
