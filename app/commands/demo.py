"""`atelier demo`: the whole product on the embedded base and its sample pictures, in about a minute."""

import time
from pathlib import Path
from typing import Annotated

import typer

from app.commands.grids import drawn_table
from app.commands.options import PRACTICE, DataDir, Json, answer, notes
from app.commands.processes import run_foreground
from app.commands.runs import summary
from app.jobs.wanting import Wish, build_config
from trainer.contract.errors import EXIT_DONE
from trainer.contract.grids import Axis, GridRequest
from trainer.contract.home import demo_folder, find_home
from trainer.contract.requests import Picture
from trainer.contract.rundir import create_run

PROMPTS = ("cat face", "rocket", "slice of pizza", "green apple")  # none is in the set
SWEEP_STEPS = 12
BRISK = {
    "training": {"steps": 250},
    "sampling": {"every": "50%", "strengths": [1.0]},
}  # over within two minutes on two slow cores
STRENGTHS = ("0", "0.25", "0.5", "0.75", "1")


def demo(
    data_dir: DataDir = None,
    as_json: Json = False,
    subject: Annotated[
        bool, typer.Option("--subject", help="Teach the sample subject instead of the sample style.")
    ] = False,
) -> None:
    """Train on the sample pictures with the embedded base, then draw how the LoRA fades in."""
    began, home = time.monotonic(), find_home(data_dir)
    kind = "subject" if subject else "style"
    notes.print(
        f"[bold]LoRA Atelier[/]: teaching the practice base a new {kind} from {demo_folder() / kind}", soft_wrap=True
    )
    config = build_config(home, Wish(f"demo/{kind}", kind, "demo", length="draft", assigned=BRISK))
    run = create_run(home, f"demo-{kind}", config)
    code = run_foreground(["train", str(run.path)], quiet=True)
    if code != EXIT_DONE:
        raise typer.Exit(code)
    notes.print("drawing the strength sweep")
    prompts = PROMPTS if kind == "style" else subject_prompts(demo_folder() / kind)
    sheet = run.path / "sweep.png"
    drawn_table(
        GridRequest(
            id="sweep",
            adapters=(str(run.adapter_file),),
            picture=Picture(prompt=prompts[0], strengths=(1.0,)),
            x=Axis(kind="strength", values=STRENGTHS),
            y=Axis(kind="prompt", values=prompts),
            steps=SWEEP_STEPS,
            out="",
        ),
        sheet,
    )
    seconds = round(time.monotonic() - began, 1)
    text = (
        f"\n[green]done in {seconds:.0f} s[/] ({PRACTICE})\n"
        f"  adapter  {run.adapter_file}\n"
        f"  sweep    {sheet}  (base on the left, full strength on the right)\n"
        f"  run      {run.path}\n\n"
        "Open the app and train on your own pictures:  [bold]atelier[/]"
    )
    answer(as_json, text, **{**summary(run), "sweep": str(sheet), "prompts": prompts, "seconds": seconds})


def subject_prompts(folder: Path) -> tuple[str, ...]:
    """Rows with the trigger word and rows without it, so that one sees that only the word calls the subject."""
    trigger = next(iter(sorted(folder.glob("*.txt")))).read_text("utf-8").split()[0]
    with_it = (f"{trigger} on a purple background", f"{trigger} on an orange background")
    return (*with_it, "cat face", "rocket")
