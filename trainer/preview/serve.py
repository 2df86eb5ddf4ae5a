"""The resident image engine. The protocol is written down in `trainer.contract.requests`."""

import json
import queue
import threading
import time
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, parse
from trainer.preview.answer import answer, model_of, preview_engine
from trainer.preview.engine import PreviewEngine


class Cancelled(Exception):
    """The one who asked no longer wants the pictures."""


class Session:
    """One conversation: requests in order, cancels at once."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._engine: PreviewEngine | None = None
        self._waiting: queue.Queue[GenerateRequest | None] = queue.Queue()
        self._cancelled: set[str] = set()

    def listen(self, lines: Iterable[str]) -> None:
        """Read requests and cancels until the other side closes."""
        for line in lines:
            if not line.strip():
                continue
            try:
                message = json.loads(line)
                if isinstance(message, dict) and "cancel" in message:
                    self._cancelled.add(str(message["cancel"]))
                else:
                    self._waiting.put(parse(GenerateRequest, line))
            except (ValueError, UserError) as error:
                problem = (
                    error
                    if isinstance(error, UserError)
                    else UserError("this line is not JSON", "request", "One object a line.")
                )
                self._failed(_id_of(line), problem)
        self._waiting.put(None)

    def work(self) -> None:
        """Answer until `listen` has ended."""
        while (request := self._waiting.get()) is not None:
            began = time.monotonic()
            try:
                files, notices = self._answer(request)
            except Cancelled:
                self._say(request.id, "cancelled")
            except UserError as error:
                self._failed(request.id, error)
            except Exception as error:  # noqa: BLE001 - one bad request must not end the engine for the next
                traceback.print_exc()
                self._failed(
                    request.id, UserError(f"{type(error).__name__}: {error}", "preview", "This is a fault of ours.")
                )
            else:
                seconds = round(time.monotonic() - began, 3)
                self._say(request.id, "done", files=[str(file) for file in files], notices=notices, seconds=seconds)

    def _answer(self, request: GenerateRequest):
        if self._engine is None or self._engine.model != model_of(request):
            self._engine = None  # give its memory back before the next is loaded
            self._engine = preview_engine(model_of(request))

        def on_step(done: int, total: int) -> None:
            if request.id in self._cancelled:
                raise Cancelled
            self._say(request.id, "progress", step=done, steps=total)

        return answer(self._engine, request, on_step)

    def _failed(self, request_id: str, error: UserError) -> None:
        self._say(request_id, "error", problem=error.problem, where=error.where, fix=error.fix)

    def _say(self, request_id: str, kind: str, **values: Any) -> None:
        self._output.write(json.dumps({"id": request_id, "kind": kind, **values}) + "\n")
        self._output.flush()


def _id_of(line: str) -> str:
    try:
        message = json.loads(line)
    except ValueError:
        return ""
    return str(message.get("id", "")) if isinstance(message, dict) else ""


def serve(lines: Iterable[str], output: TextIO) -> None:
    """Hold a session until `lines` ends."""
    session = Session(output)
    threading.Thread(target=session.listen, args=(lines,), daemon=True).start()
    session.work()
