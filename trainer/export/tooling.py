"""The tools for adapter files as commands: a request file in, progress a line, an answer."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from trainer.contract.requests import Progress, parse
from trainer.contract.tools import AnalyzeRequest, ConvertRequest, MergeRequest, ResizeRequest
from trainer.export.analysis import analyze
from trainer.export.baking import bake
from trainer.export.converting import convert
from trainer.export.resizing import merge, resize
from trainer.export.written import Told

EVERY = 0.2  # seconds between two words of progress
Request = TypeVar("Request", bound=BaseModel)


def _merge(request: MergeRequest, told: Told) -> Any:
    return bake(request, told) if request.into else merge(request, told)


TOOLS: dict[str, tuple[type[BaseModel], Callable[[Any, Told], Any]]] = {
    "analyze": (AnalyzeRequest, analyze),
    "resize": (ResizeRequest, resize),
    "merge": (MergeRequest, _merge),
    "convert": (ConvertRequest, convert),
}


def tool_file(name: str, request_file: str) -> None:
    """Do what a request file asks of a tool (`-` for standard input).

    Raises:
        UserError: it cannot be done.
    """
    kind, work = TOOLS[name]
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    request = parse(kind, text)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that half a file is cleared away
    torch.set_num_threads(1)  # layers are worked on side by side, see `each`
    began, said = time.monotonic(), 0.0

    def told(what: str, done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= EVERY or done == total:
            said = time.monotonic()
            _say(Progress(what=what, done=done, total=total).model_dump())

    answer = work(request, told).as_dict()
    _say({**answer, "seconds": round(time.monotonic() - began, 2)})


def _say(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
