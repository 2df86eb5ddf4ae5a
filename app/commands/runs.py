"""`atelier train`, `resume`, `runs`, `stop`."""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.options import Base, DataDir, Json, about_base, answer, console, notes
from app.commands.processes import run_foreground, told_by
from app.jobs import queue
from app.jobs.executors import local
from app.jobs.model import Shown
from app.jobs.queue import HELD
from app.jobs.wanting import Wish, build_config, checked
from trainer.contract.amendments import Rate, ask, says_length
from trainer.contract.compose import Layer, parse_assignments
from trainer.contract.config import RunConfig
from trainer.contract.errors import EXIT_DONE, EXIT_STOPPED, UserError
from trainer.contract.home import find_home
from trainer.contract.preflight import others, preflight_of
from trainer.contract.presets import DEFAULT_LENGTH, DEFAULT_PRESET
from trainer.contract.rundir import ACTIVE, RunDir, State, continued, create_run, find_run, list_runs, steps, successor
from trainer.formats.foreign import read_foreign
from trainer.pictures.origin import accept_pictures, check_succession, check_unchanged

STOP_SECONDS = 60.0


def train(
    dataset: Annotated[str, typer.Option(help="One of your sets, or any folder of pictures with .txt captions.")],
    preset: Annotated[str, typer.Option(help="Preset name (style, subject) or a .toml file.")] = DEFAULT_PRESET,
    length: Annotated[
        str,
        typer.Option(help="draft, good or best, as the preset has it. Any other: --set.", show_default=DEFAULT_LENGTH),
    ] = "",
    auto_rate: Annotated[
        bool, typer.Option("--auto-rate", help="Choose the learning rate for me: Prodigy, at rate 1.")
    ] = False,
    base: Base = "",
    name: Annotated[str, typer.Option(help="Name of the run and of its file.")] = "",
    trigger: Annotated[str, typer.Option(help="Word that calls the new thing.")] = "",
    like: Annotated[
        Path | None,
        typer.Option(help="Settings of another trainer: kohya's .toml or .json, or a LoRA file; over the preset."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value. Repeatable.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would take, from one step and one picture; train nothing."),
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train a LoRA on a set of pictures, in the foreground. Ctrl-C stops and saves."""
    home = find_home(data_dir)
    assigned = parse_assignments(set_ or [])
    config = build_config(home, Wish(dataset, preset, base, trigger, length, auto_rate, _like(like), assigned))
    about_base(config.model.base)
    name = name or Path(config.dataset.path).name
    if dry_run:
        _plan(home, name, config, as_json)
        return
    run = create_run(home, name, config)
    notes.print(f"run: {run.path}", soft_wrap=True)
    _foreground(run, as_json)


def _plan(home: Path, name: str, config: RunConfig, as_json: bool) -> None:
    """Measure in a folder that nobody sees, and say what was found."""
    with tempfile.TemporaryDirectory() as folder, notes.status("loading the base, measuring a step and a picture"):
        told = told_by("plan", str(create_run(Path(folder), name, config).path))
    if beside := [run.name for run in list_runs(home) if run.status().state in ACTIVE]:
        told["notices"].append(f"measured beside a training ({', '.join(beside)}): alone it takes less time")
    found = preflight_of(told)
    lines = [found.lengths(), f"{found.words()}, {found.steps_left} steps", found.samples()]
    lines += [f"also on the card: {others(found.processes)}"] if found.processes else []
    answer(as_json, "\n".join([*lines, *(f"[yellow]{escape(text)}[/]" for text in told["notices"])]), **told)


def _like(path: Path | None) -> Layer:
    """The settings of another trainer's file; what was made of it is said."""
    if path is None:
        return {}
    found = read_foreign(path)
    for name, setting, value in found.taken:
        notes.print(f"{name} -> {setting}={value}", markup=False)
    for name, value, reason in found.left:
        notes.print(f"not taken: {name}={str(value)[:60]} ({reason})", markup=False, style="yellow")
    return found.layer


def resume(
    run: Annotated[str, typer.Argument(help="Name or folder of the run.")],
    as_new: Annotated[
        bool, typer.Option("--as-new", help="A new run with the same settings, from what this one has learned.")
    ] = False,
    as_begun: Annotated[
        bool, typer.Option("--as-begun", help="With the pictures and captions it began with, though they changed.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="From here on: training.steps=400, training.save_every, sampling.*; with --as-new, any setting.",
        ),
    ] = None,
    rate: Annotated[
        str, typer.Option(help="Where it gets longer: `hold` the final rate, or `rewarm`: the schedule anew.")
    ] = "hold",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Go on with a run from its last save, bit for bit as if it had never stopped; --set changes its length, its
    checkpoints and its samples, also while it runs."""
    home = find_home(data_dir)
    found = find_run(home, run)
    if rate not in get_args(Rate):
        raise UserError(f"there is no rate '{rate}'", "--rate", f"Give one of: {', '.join(get_args(Rate))}.")
    changes = parse_assignments(set_ or [])
    if rate != "hold" and not as_new and not says_length(changes):
        raise UserError(
            f"'{rate}' is for the steps of a length, and none is given",
            "--rate",
            "Say how long the run is to be, if only as long as it was: --set training.steps=400.",
        )
    status = found.status()
    if as_new:
        config = checked(home, continued(found, changes))
        check_succession(found, config)
        found = successor(home, found, config)
        notes.print(f"run: {found.path}", soft_wrap=True)
    elif changes and status.state in ACTIVE:
        ask(found, changes, cast(Rate, rate))
        answer(as_json, f"{found.name}: it changes after this step.", **summary(found))
        return
    elif not changes and status.state == State.DONE and found.adapter_file.exists():
        answer(as_json, f"{found.name} is finished already: {found.adapter_file}", **summary(found))
        return
    else:
        _prepare(found, changes, cast(Rate, rate), as_begun)
    _foreground(found, as_json)


def _prepare(run: RunDir, changes: Layer, rate: Rate, as_begun: bool) -> None:
    """Ask a run that goes on for changes. Where they are refused it stays as it was. Raises UserError."""
    if as_begun:
        accept_pictures(run)
    if changes:
        check_unchanged(run)
        ask(run, changes, rate)
    run.take_request(HELD)


def _end_if_it_hangs(run: RunDir) -> None:
    """End a run that shows no sign of life; what was learned since its last save is learned again by a resume.

    Raises:
        UserError: it lives, and only needs longer.
    """
    status = run.status()
    if time.time() - status.heartbeat < STOP_SECONDS:
        raise UserError(
            f"it has not stopped after {STOP_SECONDS:.0f} s", run.name, "It will at its next step; look at log.txt."
        )
    local.stop_process(status.pid, status.pid_started)
    run.take_request("stop")


def _foreground(run: RunDir, as_json: bool) -> None:
    began = time.monotonic()
    code = run_foreground(["train", str(run.path)], quiet=as_json)
    told = {**summary(run), "seconds": round(time.monotonic() - began, 1)}
    if code == EXIT_DONE:
        answer(as_json, f"[green]done[/]: {run.adapter_file}", **told)
    elif code == EXIT_STOPPED:
        answer(as_json, f"stopped and saved at step {told['step']}; go on with: atelier resume {run.name}", **told)
    elif as_json:
        answer(as_json, "", **{**told, "ok": False})
    raise typer.Exit(code)


def summary(run: RunDir) -> dict[str, Any]:
    """What scripts want to know of a run."""
    status, last = run.status(), list(steps(run).values())[-1:]
    return {
        "name": run.name,
        "run": str(run.path),
        "state": str(status.state),
        "step": status.step,
        "total": status.total,
        "loss": last[0]["loss"] if last else None,
        "message": status.message,
        "fix": status.fix,
        "adapter": str(run.adapter_file) if run.adapter_file.exists() else None,
    }


def runs(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the runs: those that go on, those that wait in their order, the others, newest first."""
    home = find_home(data_dir)
    found = [{**summary(item.run), "shown": item.shown} for item in queue.entries(home)]
    if as_json:
        answer(True, "", runs=found, home=str(home))
        return
    table = Table("run", "state", "step", "loss", "file", title=f"runs in {home / 'runs'}")
    for row in found:
        loss = "" if row["loss"] is None else f"{row['loss']:.4f}"
        table.add_row(
            row["name"],
            row["shown"],
            f"{row['step']}/{row['total']}",
            loss,
            Path(row["adapter"]).name if row["adapter"] else "",
        )
    console.print(table if found else f"No runs in {home / 'runs'} yet. Start one: atelier demo")


def stop(
    run: Annotated[str, typer.Argument(help="Name or folder of the run.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask a run to save and stop, and wait until it has."""
    home = find_home(data_dir)
    found = find_run(home, run)
    if (known := queue.known(home, found.name)) and known.shown is Shown.WAITING:
        answer(as_json, queue.stop(home, found.name), **summary(found))
        return
    if found.status().state not in ACTIVE:
        raise UserError(
            f"this run is not running, it is {found.status().state}", found.name, "Running ones: atelier runs"
        )
    found.request("stop")
    found.take_request(HELD)
    deadline = time.monotonic() + STOP_SECONDS
    while found.status().state in ACTIVE:
        if time.monotonic() > deadline:
            _end_if_it_hangs(found)
            break
        time.sleep(0.1)
    answer(as_json, f"{found.name}: {found.status().message}", **summary(found))
