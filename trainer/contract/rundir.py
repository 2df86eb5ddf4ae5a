"""The run folder: everything that is known of one run, as files that any program can read.

    config.toml     what was asked, frozen
    engine.json     choices the engine made once (threads, device, number type), reused on resume
    origin.json     digests of what the run is made of: settings, base, pictures, captions; compared on resume
    status.json     state, process, step, total, heartbeat; replaced as a whole
    events.jsonl    one JSON object a line, appended: steps, samples, saves, notices
    log.txt         what the process printed
    amendments.jsonl  what was changed later, with the step, see `trainer.contract.amendments`
    requests/       files that ask the trainer for something: stop, save, amend
    cache/          what is trained on, and links to latents and embeddings until the run is done
    samples/        pictures drawn while training
    checkpoints/    step-000300/ folders that a resume starts from, see `trainer.contract.checkpoints`
    export/         NAME.safetensors, the end; NAME-s000750.safetensors, a save; NAME-best.safetensors, the chosen one

After a crash and a resume some steps stand twice in events.jsonl: readers take the last value of a step and ignore a
torn last line.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from trainer.contract.checkpoints import hand_on
from trainer.contract.compose import Layer, compose, from_toml, to_toml
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import append_line, read_json, write_atomic, write_sign
from trainer.contract.names import safe_name


class State(StrEnum):
    """What a run is doing."""

    CREATED = "created"  # the folder is there, no process has started
    PREPARING = "preparing"  # loading the base, reading pictures
    TRAINING = "training"
    PAUSED = "paused"  # the disk is full; it goes on by itself when there is room
    STOPPED = "stopped"  # by the user, saved; can be resumed
    DONE = "done"
    FAILED = "failed"  # `message` says why, `fix` what to do; can be resumed
    LOST = "lost"  # says it is running, but its process is gone; never written, only read


ACTIVE = (State.PREPARING, State.TRAINING, State.PAUSED)

# Set by a program that trains in the foreground: the trainer saves and stops when that program is gone.
FOREGROUND = "ATELIER_FOREGROUND"


@dataclass(frozen=True)
class Status:
    """The content of status.json.

    Attributes:
        state: see `State`.
        step: optimiser steps done.
        total: optimiser steps asked for; 0 while unknown.
        pid: process that trains, 0 for none.
        pid_started: when that process started, seconds since 1970: a reused pid is told from it.
        heartbeat: when this was written, seconds since 1970.
        message: one line for people.
        fix: what to do next, when it failed.
    """

    state: State = State.CREATED
    step: int = 0
    total: int = 0
    pid: int = 0
    pid_started: float = 0.0
    heartbeat: float = 0.0
    message: str = ""
    fix: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this is still there."""
        if not self.pid:
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.pid_started) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class RunDir:
    """One run folder."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, which is also the name of its adapter file."""
        return self.path.name

    @property
    def samples(self) -> Path:
        """Pictures drawn while training."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """What a resume starts from."""
        return self.path / "checkpoints"

    @property
    def cache(self) -> Path:
        """What the run has written down of its pictures, and while it is not done links to what was made of them."""
        return self.path / "cache"

    @property
    def adapter_file(self) -> Path:
        """The finished adapter, once the run is done. Its name is one that every program takes."""
        return self._exported("")

    @property
    def best_file(self) -> Path:
        """The adapter that somebody chose."""
        return self._exported("-best")

    def step_file(self, step: int) -> Path:
        """The adapter as it was after that many steps."""
        return self._exported(f"-s{step:06d}")

    def step_files(self) -> dict[int, Path]:
        """Step -> adapter file of every save, in order."""
        start = f"{self.adapter_file.stem}-s"
        files = [path for path in self.adapter_file.parent.glob("*.safetensors") if path.stem.startswith(start)]
        found = {path.stem.removeprefix(start): path for path in files}
        return {int(step): found[step] for step in sorted(filter(str.isdecimal, found), key=int)}

    def adapter_files(self) -> tuple[Path, ...]:
        """Every adapter file there is: the chosen one, the end, it as a plain LoRA, the saves from the last on."""
        files = (self.best_file, self.adapter_file, self.plain_file, *reversed(self.step_files().values()))
        return tuple(path for path in files if path.is_file())

    def _exported(self, ending: str) -> Path:
        return self.path / "export" / f"{safe_name(self.name)}{ending}.safetensors"

    @property
    def plain_file(self) -> Path:
        """The same as a plain LoRA, where the method is another (`export.plain`)."""
        return self._exported("-lora")

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.path / "log.txt"

    def config(self) -> RunConfig:
        """Read the frozen config.

        Raises:
            UserError: this is no run folder, or its config was changed into something wrong.
        """
        path = self.path / "config.toml"
        try:
            return from_toml(path.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(
                "this is not a run folder (no config.toml)", str(self.path), "List the runs: atelier runs"
            ) from None
        except UserError as error:
            raise UserError(error.problem, f"{path}, {error.where}", error.fix) from None
        except ValueError as error:
            fix = "Put it back as it was, or start a new run: atelier train."
            raise UserError(f"config.toml is damaged: {error}", str(path), fix) from None

    def status(self) -> Status:
        """Read the status; a run whose process is gone reads as lost, and so does one whose status is damaged."""
        try:
            fields = json.loads((self.path / "status.json").read_text("utf-8"))
            status = Status(**{**fields, "state": State(fields["state"])})
        except FileNotFoundError:
            return Status()
        except (ValueError, KeyError, TypeError):
            return Status(State.LOST, message="status.json is damaged. Resume goes on from the last save.")
        if status.state in ACTIVE and not status.alive:
            return replace(
                status, state=State.LOST, message="The process ended without a word. Resume goes on from the last save."
            )
        return status

    def write_status(self, state: State, **changes: Any) -> Status:
        """Replace status.json, keeping what `changes` does not name. The writing process signs it."""
        own = psutil.Process()
        signature = {"pid": os.getpid(), "pid_started": own.create_time(), "heartbeat": time.time()}
        cleared = {"message": "", "fix": ""}
        status = replace(self.status(), state=state, **{**signature, **cleared, **changes})
        write_sign(self.path / "status.json", json.dumps(asdict(status), indent=1))
        return status

    def emit(self, kind: str, **values: Any) -> None:
        """Append one event."""
        append_line(self.path / "events.jsonl", json.dumps({"kind": kind, "time": round(time.time(), 3), **values}))

    def events(self, offset: int = 0) -> Iterator[dict[str, Any]]:
        """Yield whole events from a byte offset on; a torn last line is left for later."""
        yield from (event for event, _ in self.located(offset))

    def told(self) -> int:
        """Bytes of the events so far: where to read on for what comes from now on."""
        path = self.path / "events.jsonl"
        return path.stat().st_size if path.exists() else 0

    def located(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """The same, each with the offset behind it: where to read on later."""
        try:
            with (self.path / "events.jsonl").open("rb") as stream:
                stream.seek(offset)
                for line in stream:
                    offset += len(line)
                    if line.endswith(b"\n") and (event := _parsed(line)):
                        yield event, offset
        except FileNotFoundError:
            return

    def request(self, what: str) -> None:
        """Ask the trainer for `stop` or `save`."""
        folder = self.path / "requests"
        folder.mkdir(exist_ok=True)
        (folder / what).touch()

    def asked(self, what: str) -> bool:
        """Whether `what` is asked for and not taken yet."""
        return (self.path / "requests" / what).exists()

    def take_request(self, what: str) -> bool:
        """Return whether `what` was asked for, and forget it."""
        path = self.path / "requests" / what
        asked = path.exists()
        path.unlink(missing_ok=True)
        return asked

    def forget_request(self, what: str, before: float) -> None:
        """Forget what was asked for before a time, in seconds since 1970."""
        path = self.path / "requests" / what
        if path.exists() and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)

    def engine(self) -> dict[str, Any]:
        """Read the engine's choices; empty before the first start."""
        path = self.path / "engine.json"
        return read_json(path, "Remove that file: the engine chooses anew.") if path.exists() else {}

    def write_engine(self, choices: dict[str, Any]) -> None:
        """Freeze the engine's choices."""
        write_atomic(self.path / "engine.json", json.dumps(choices, indent=1, sort_keys=True))


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A crash in the middle of a line, then a resume, leaves one broken line in the middle: it is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def steps(run: RunDir) -> dict[int, dict[str, Any]]:
    """Return the last `step` event of every step, in order."""
    found = {event["step"]: event for event in run.events() if event["kind"] == "step"}
    return dict(sorted(found.items()))


def create_run(home: Path, name: str, config: RunConfig, begin: Callable[[RunDir], None] = lambda run: None) -> RunDir:
    """Make a new run folder under `home`; a number is added where the name is taken. Nothing is ever overwritten.

    Args:
        home: data folder.
        name: of the run.
        config: written last: a folder without it is no run, whatever a crash left there.
        begin: puts into the folder what the run begins with.
    """
    base = safe_name(name)[:80]  # room for a number, and for the step in the names of files
    runs = home / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        path = runs / (base if number == 1 else f"{base}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        for folder in ("requests", "samples", "checkpoints", "export"):
            (path / folder).mkdir()
        run = RunDir(path)
        try:
            begin(run)
            write_atomic(path / "config.toml", to_toml(config))
        except (UserError, OSError):
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run
    raise UserError(f"there are ten thousand runs called '{base}'", str(runs), "Give another --name.")


def continued(run: RunDir, changes: Layer) -> RunConfig:
    """The settings of a run with some changes, for a new run that goes on from it.

    Raises:
        UserError: a change is not allowed, contradicts the rest, or has no effect.
    """
    before = compose([run.config().model_dump(exclude_none=True)], "reset")
    return compose([before.model_dump(exclude_defaults=True), changes])


def successor(home: Path, run: RunDir, config: RunConfig) -> RunDir:
    """Make a new run that goes on from what another has learned, see `continued`.

    Raises:
        UserError: the other run has saved nothing yet.
    """

    def begin(new: RunDir) -> None:
        if not hand_on(run.checkpoints, run.name, new.checkpoints):
            raise UserError("this run has no checkpoint to go on from", run.name, "Start a new run: atelier train.")

    return create_run(home, run.name, config, begin)


def find_run(home: Path, name: str) -> RunDir:
    """Find a run by its name under `home`, or by its folder.

    Raises:
        UserError: there is none, with the ones there are.
    """
    for path in (home / "runs" / name, Path(name)):
        if (path / "config.toml").is_file():
            return RunDir(path.resolve())
    known = ", ".join(run.name for run in list_runs(home)[:8]) or "none yet"
    raise UserError(f"there is no run '{name}'", str(home / "runs"), f"Runs: {known}.")


def run_of(adapter: Path) -> RunDir | None:
    """Return the run that an adapter file is of, by where it lies."""
    run = RunDir(adapter.parent.parent)
    return run if adapter in run.adapter_files() and (run.path / "config.toml").is_file() else None


def list_runs(home: Path) -> list[RunDir]:
    """Return every run under `home`, newest first."""
    found = [path.parent for path in (home / "runs").glob("*/config.toml")]
    return [RunDir(path) for path in sorted(found, key=lambda path: -(path / "config.toml").stat().st_mtime)]
