"""`atelier sample` and `atelier save`: what a run is asked while it goes on."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.options import DataDir, Json, answer
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.requests import SampleRequest, ask_sample, parse_strengths
from trainer.contract.rundir import ACTIVE, RunDir, find_run

RunName = Annotated[str, typer.Argument(help="Name or folder of the run.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0)]
LOOK_SECONDS = 0.2
WRITTEN_SECONDS = 10.0


def sample(
    run: RunName,
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    strengths: Annotated[str, typer.Option(help="Strengths of the adapter, such as 0,0.5,1; as the samples.")] = "",
    negative: Annotated[str | None, typer.Option(help="What not to draw; as the run's samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture; as the run's samples.", min=0)] = None,
    wait: Wait = 600.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let a run that is training draw a prompt between two of its steps."""
    found = _running(data_dir, run)
    request = SampleRequest(prompt=prompt, strengths=parse_strengths(strengths), negative=negative, seed=seed)
    began = found.told()
    name = ask_sample(found, request)
    told = _answered(found, wait, lambda: _told(found, began, ("answered", "unanswered"), name))
    if told["kind"] == "unanswered":
        raise UserError(
            f"the run could not draw it: {told['problem']}", found.name, "The training goes on; see log.txt."
        )
    files = [str(found.samples / file) for file in told["files"]]
    answer(as_json, "\n".join(files), step=told["step"], files=files)


def save(run: RunName, wait: Wait = 600.0, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a run that is training write a checkpoint now, and go on."""
    found = _running(data_dir, run)
    began, taken = found.told(), found.path / "requests" / "save"
    found.request("save")
    _answered(found, wait, lambda: None if taken.exists() else {})
    deadline = time.monotonic() + WRITTEN_SECONDS  # where this very step was saved already, nothing more is written
    while time.monotonic() < deadline and not any(event["kind"] == "save" for event in found.events(began)):
        time.sleep(LOOK_SECONDS)
    kept = sorted(path.name for path in found.checkpoints.glob("step-*"))
    answer(as_json, f"{found.name}: saved, as {', '.join(kept[-1:]) or 'it was already'}", checkpoints=kept)


def _running(data_dir: Path | None, name: str) -> RunDir:
    found = find_run(find_home(data_dir), name)
    if found.status().state not in ACTIVE:
        fix = "Running ones: atelier runs. Of a finished one: atelier generate --adapter NAME."
        raise UserError(f"this run is not running, it is {found.status().state}", found.name, fix)
    return found


def _told(run: RunDir, offset: int, kinds: tuple[str, ...], name: str) -> dict[str, Any] | None:
    return next((event for event in run.events(offset) if event["kind"] in kinds and event["id"] == name), None)


def _answered(run: RunDir, wait: float, look: Any) -> dict[str, Any]:
    """Wait until `look` finds an answer.

    Raises:
        UserError: it did not come in time, or the run ended before.
    """
    deadline = time.monotonic() + wait
    while (told := look()) is None:
        active = run.status().state in ACTIVE
        if not active and (told := look()) is not None:
            break
        if not active or time.monotonic() > deadline:
            why = f"has not answered after {wait:.0f} s" if active else f"ended before: {run.status().message}"
            raise UserError(f"the run {why}", run.name, "What was asked stands; it is done when the run goes on.")
        time.sleep(LOOK_SECONDS)
    found: dict[str, Any] = told
    return found
