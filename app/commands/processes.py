"""Starting the trainer in the foreground and waiting for it, whatever the terminal does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trainer.contract.errors import EXIT_ASKED, EXIT_DONE, EXIT_STOPPED, UserError
from trainer.contract.rundir import FOREGROUND

LET_GO_SECONDS = 10.0  # for a trainer to end when it is told to


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


def ask(command: str, request: BaseModel) -> dict[str, Any]:
    """Give a request to a trainer command and return the object it prints. Raises as `told_by` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(request.model_dump_json(), "utf-8")
        return told_by(command, str(path))


def told_by(command: str, argument: str) -> dict[str, Any]:
    """Run a trainer command to its end and return the object it prints.

    Raises:
        UserError: what the trainer said when it could not be done.
        RuntimeError: the trainer failed by a fault of ours; its traceback is on standard error.
    """
    with _child(trainer(command, argument)) as process:
        out, said = process.communicate()
    last = next(reversed(out.strip().splitlines()), "")
    if process.returncode == EXIT_ASKED and last:
        raise UserError(**json.loads(last))
    if process.returncode != EXIT_DONE:
        sys.stderr.write(said)
        raise RuntimeError(f"trainer {command} ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(last)
    return answer


@contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose words are read. It ends with us, whatever ends us: a TERM unwinds us as Ctrl-C does."""

    def leave(*_: object) -> None:
        raise SystemExit(EXIT_STOPPED)

    previous = signal.signal(signal.SIGTERM, leave)
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, FOREGROUND: "1"}
        ) as process:
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
