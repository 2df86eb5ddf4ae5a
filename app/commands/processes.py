"""Starting the trainer in the foreground and waiting for it, whatever the terminal does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from trainer.contract.errors import EXIT_ASKED, EXIT_DONE, EXIT_STOPPED, UserError
from trainer.contract.rundir import FOREGROUND

LET_GO_SECONDS = 10.0  # for a trainer to end when it is told to
PROGRESS = '{"kind": "progress"'  # how a line of progress begins
OnProgress = Callable[[str, int, int], None]


def trainer(*arguments: str) -> list[str]:
    """The command line of the trainer; -P keeps the current folder out of its imports."""
    return [sys.executable, "-P", "-m", "trainer", *arguments]


def run_foreground(arguments: Sequence[str], quiet: bool) -> int:
    """Run the trainer on this terminal and return its exit code.

    Ctrl-C reaches the trainer by itself (same terminal); a TERM is passed on. Either way it saves, and we wait for it.
    """
    out = sys.stderr if quiet else None
    process = subprocess.Popen(trainer(*arguments), stdout=out, env={**os.environ, FOREGROUND: "1"})
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, previous)


def ask(command: str, request: BaseModel, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Give a request to a trainer command and return the object it prints. Raises as `told_by` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(request.model_dump_json(), "utf-8")
        return told_by(command, str(path), on_progress)


def told_by(command: str, argument: str, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Run a trainer command to its end and return the object it prints.

    Args:
        command: name of a trainer command.
        argument: what it is given.
        on_progress: called with what is done, how much of it, and of how much (0 where that is not known).

    Raises:
        UserError: what the trainer said when it could not be done.
        RuntimeError: the trainer failed by a fault of ours; its traceback is on standard error.
    """
    last = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        with _child(trainer(command, argument), said) as process:
            for line in process.stdout or ():
                last = line.strip() or last
                if on_progress and last.startswith(PROGRESS):
                    step = json.loads(last)
                    on_progress(step["what"], step["done"], step["total"])
        if process.returncode == EXIT_ASKED and last:
            raise UserError(**json.loads(last))
        if process.returncode != EXIT_DONE:
            said.seek(0)
            sys.stderr.write(said.read())
            raise RuntimeError(f"trainer {command} ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(last)
    return answer


@contextmanager
def _child(command: Sequence[str], said: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose words are read, its complaints put in a file.

    It ends with us, whatever ends us: a TERM unwinds us as Ctrl-C does.
    """

    def leave(*_: object) -> None:
        raise SystemExit(EXIT_STOPPED)

    previous = signal.signal(signal.SIGTERM, leave)
    environment = {**os.environ, FOREGROUND: "1"}
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as process:
            try:
                yield process
            except BaseException:
                _end(process)
                raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=LET_GO_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
