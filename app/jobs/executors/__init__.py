"""Where a training runs. An executor starts the command `python -P -m trainer train RUN_DIR` and nothing more.

One is a module with four functions, and a row here:

    submit(run_dir, token, card) -> handle  start it on a card, with the token about it; the handle finds it again
    adopt(token) -> handle    find what was started with a token; "" where it is not there
    poll(handle) -> bool      whether it is still there
    stop(handle) -> None      end it and all it started, at once; a kind stop is `RunDir.request("stop")`
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Executor:
    """The four functions of an executor."""

    submit: Callable[[Path, str, str], str]
    adopt: Callable[[str], str]
    poll: Callable[[str], bool]
    stop: Callable[[str], None]


EXECUTORS = {
    "local": "app.jobs.executors.local",
}


def executor(name: str) -> Executor:
    """Import the executor of a row."""
    module = importlib.import_module(EXECUTORS[name])
    return Executor(module.submit, module.adopt, module.poll, module.stop)
