"""Starting the trainer in the foreground and waiting for it, whatever the terminal does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trainer.contract.errors import EXIT_ASKED, EXIT_DONE, UserError
from trainer.contract.rundir import FOREGROUND


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
    done = subprocess.run(trainer(command, argument), capture_output=True, text=True, check=False)
    if done.returncode == EXIT_ASKED:
        problem, _, fix = done.stderr.strip().partition("\n")
        raise UserError(problem, "", fix)
    if done.returncode != EXIT_DONE:
        sys.stderr.write(done.stderr)
        raise RuntimeError(f"trainer {command} ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
