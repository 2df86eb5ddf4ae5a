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
    export/         finished adapter files

After a crash and a resume some steps stand twice in events.jsonl: readers take the last value of a step and ignore a
torn last line.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from trainer.contract.checkpoints import hand_on
from trainer.contract.compose import Layer, compose, from_toml, to_toml
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import append_line, write_atomic, write_sign
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
        """The finished adapter, once the run is done."""
        return self.path / "export" / f"{self.name}.safetensors"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.path / "log.txt"

    def config(self) -> RunConfig:
        """Read the frozen config.

        Raises:
            UserError: this is no run folder, or its config was changed into something wrong.
        """
        try:
            return from_toml((self.path / "config.toml").read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(
                "this is not a run folder (no config.toml)", str(self.path), "List the runs: atelier runs"
            ) from None

    def status(self) -> Status:
        """Read the status; a run whose process is gone reads as lost."""
        try:
            fields = json.loads((self.path / "status.json").read_text("utf-8"))
        except FileNotFoundError:
            return Status()
        status = Status(**{**fields, "state": State(fields["state"])})
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
        try:
            with (self.path / "events.jsonl").open("rb") as stream:
                stream.seek(offset)
                for line in stream:
                    if line.endswith(b"\n") and (event := _parsed(line)):
                        yield event
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

    def engine(self) -> dict[str, Any]:
        """Read the engine's choices; empty before the first start."""
        path = self.path / "engine.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

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


def create_run(home: Path, name: str, config: RunConfig) -> RunDir:
    """Make a new run folder under `home`; a number is added where the name is taken. Nothing is ever overwritten."""
    base = safe_name(name)[:90]  # room for a number
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
        write_atomic(path / "config.toml", to_toml(config))
        return run
    raise UserError(f"there are ten thousand runs called '{base}'", str(runs), "Give another --name.")


def successor(home: Path, run: RunDir, changes: Layer) -> RunDir:
    """Make a new run with the settings of another and some changes, that goes on from what that one has learned.

    Raises:
        UserError: a change is not allowed, or the other run has saved nothing yet.
    """
    config = compose([run.config().model_dump(exclude_none=True), changes], "keep")
    new = create_run(home, run.name, config)
    if not hand_on(run.checkpoints, run.name, new.checkpoints):
        shutil.rmtree(new.path)
        raise UserError("this run has no checkpoint to go on from", run.name, "Start a new run: atelier train.")
    return new


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
    """Return the run whose finished adapter a file is, by where it lies."""
    run = RunDir(adapter.parent.parent)
    return run if adapter == run.adapter_file and (run.path / "config.toml").is_file() else None


def list_runs(home: Path) -> list[RunDir]:
    """Return every run under `home`, newest first."""
    found = [path.parent for path in (home / "runs").glob("*/config.toml")]
    return [RunDir(path) for path in sorted(found, key=lambda path: -(path / "config.toml").stat().st_mtime)]
