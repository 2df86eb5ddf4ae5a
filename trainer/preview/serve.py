"""The resident image engine. The protocol is written down in `trainer.contract.requests`."""

import itertools
import json
import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from trainer.contract.errors import UserError
from trainer.contract.grids import GridRequest
from trainer.contract.requests import GenerateRequest, Shared, parse
from trainer.preview.answer import answer, model_of, preview_engine
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.preview.grids import answer_grid

IDLE = "ATELIER_IDLE_SECONDS"
IDLE_SECONDS = 1800.0


class Cancelled(Exception):
    """The one who asked no longer wants the pictures."""


class Session:
    """One conversation: requests in order, cancels at once.

    Args:
        output: where answers go.
        idle: seconds without a request after which it ends.
    """

    def __init__(self, output: TextIO, idle: float) -> None:
        self._output, self._idle = output, idle
        self._engine: PreviewEngine | None = None
        self._waiting: queue.Queue[Shared | None] = queue.Queue()
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
                    grid = isinstance(message, dict) and "x" in message
                    self._waiting.put(parse(GridRequest, line) if grid else parse(GenerateRequest, line))
            except UserError as error:
                self._failed(_id_of(line), error)
            except (ValueError, RecursionError):
                self._failed(_id_of(line), UserError("this line is not JSON", "request", "One object a line."))
        self._waiting.put(None)

    def work(self) -> None:
        """Answer until `listen` has ended, or nothing was asked for too long."""
        try:
            while (request := self._waiting.get(timeout=self._idle)) is not None:
                self._tried(request)
        except queue.Empty:
            self._say("", "idle")

    def _tried(self, request: Shared) -> None:
        began = time.monotonic()
        try:
            told = self._answer(request)
        except Cancelled:
            self._say(request.id, "cancelled")
        except UserError as error:
            self._failed(request.id, error)
        except Exception as error:  # noqa: BLE001 - one bad request must not end the engine for the next
            traceback.print_exc()
            problem = UserError(f"{type(error).__name__}: {error}", "preview", "This is a fault of ours.")
            self._failed(request.id, problem)
        else:
            self._say(request.id, "done", **told, seconds=round(time.monotonic() - began, 3))

    def _answer(self, request: Shared) -> dict[str, Any]:
        """Files and notices."""
        self._heed(request)
        if self._engine is None or self._engine.model != model_of(request):
            self._engine = None  # give its memory back before the next is loaded
            self._engine = preview_engine(model_of(request))

        def on_step(done: int, total: int) -> None:
            self._heed(request)
            self._say(request.id, "progress", step=done, steps=total)

        def on_picture(place: int, file: Path) -> None:
            self._say(request.id, "picture", place=place, file=str(file))

        with tempfile.TemporaryDirectory(prefix="lora-atelier-") as folder:
            watcher = Watcher(on_step, self._frames(request, Path(folder)), on_picture)
            if isinstance(request, GridRequest):
                files, sheet, notices = answer_grid(self._engine, request, watcher)
                return {"files": list(map(str, files)), "sheet": str(sheet), "notices": notices}
            files, notices = answer(self._engine, request, watcher)
            return {"files": list(map(str, files)), "notices": notices}

    def _heed(self, request: Shared) -> None:
        if request.id in self._cancelled:
            raise Cancelled

    def _frames(self, request: Shared, folder: Path) -> Callable[[list[Image.Image], Sequence[int], int], None]:
        """What tells of pictures that are not finished, kept in a folder."""
        numbers = itertools.count()

        def tell(images: list[Image.Image], places: Sequence[int], done: int) -> None:
            files = [folder / f"{next(numbers)}.png" for _ in images]
            for image, file in zip(images, files, strict=True):
                image.save(file, "PNG", compress_level=1)
            self._say(request.id, "frames", step=done, places=list(places), files=[str(file) for file in files])

        return tell

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


def serve(lines: Iterable[str], output: TextIO, idle: float | None = None) -> None:
    """Hold a session until `lines` ends, or until nothing was asked for `idle` seconds."""
    session = Session(output, idle or float(os.environ.get(IDLE, "") or IDLE_SECONDS))
    threading.Thread(target=session.listen, args=(lines,), daemon=True).start()
    session.work()
