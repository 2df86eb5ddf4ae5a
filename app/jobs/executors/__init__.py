"""Where a training runs. An executor starts the command `python -P -m trainer train RUN_DIR` and nothing more.

One is a module with three functions, and a row here:

    submit(run_dir) -> handle      start it; the handle finds it again after a restart
    poll(handle) -> bool           whether it is still there
    stop(handle) -> None           end it and all it started, at once; a kind stop is `RunDir.request("stop")`
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Executor:
    """The three functions of an executor."""

    submit: Callable[[Path], str]
    poll: Callable[[str], bool]
    stop: Callable[[str], None]


EXECUTORS = {
    "local": "app.jobs.executors.local",
}


def executor(name: str) -> Executor:
    """Import the executor of a row."""
    module = importlib.import_module(EXECUTORS[name])
    return Executor(module.submit, module.poll, module.stop)
