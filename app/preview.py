"""The resident picture engine, seen from the page: one process a web server, kept warm, newest request first.

The engine is `python -P -m trainer serve`; what it is asked and what it answers is in `trainer.contract.requests`.
Requests of one slot (a page) replace each other: while the slider moves, only where it stops is drawn to the end. The
next request starts an engine anew that died, or that ended itself because nobody asked it anything.
"""

import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.jobs.executors.local import environment
from trainer.contract.errors import UserError
from trainer.contract.requests import Shared

COMMAND = (sys.executable, "-P", "-m", "trainer", "serve")
Answer = dict[str, Any]


@dataclass
class Waiting:
    """A request that is being answered, and its answers so far."""

    request: Shared
    answers: "queue.Queue[Answer]" = field(default_factory=queue.Queue)


@dataclass
class Engine:
    """The process and the answers that are awaited.

    Attributes:
        home: the data folder; the engine's own words go to `preview.log` in it.
        command: what is started.
    """

    home: Path
    command: tuple[str, ...] = COMMAND
    _process: subprocess.Popen[str] | None = None
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _newest: dict[str, str] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def draw(self, request: Shared, slot: str) -> Iterator[Answer]:
        """Send pictures or a grid to draw, in the place of the slot's last request; yield its answers.

        They are `progress`, `frames` and `picture` as they come, and `done` or `cancelled` at the end.

        Raises:
            UserError: the engine says so, or it died.
        """
        with self._guard:
            older = self._newest.get(slot)
            self._newest[slot] = request.id
            if older in self._waiting:
                self._write({"cancel": older})
        with self._turn:  # one at a time; the engine has one card
            if self._newest.get(slot) != request.id:
                yield {"id": request.id, "kind": "cancelled"}
                return
            waiting = Waiting(request)
            with self._guard:
                self._waiting[request.id] = waiting
                self._start()
                self._write(request.model_dump())
            try:
                yield from self._answers(waiting.answers)
            finally:
                with self._guard:
                    self._waiting.pop(request.id, None)

    def cancel(self, slot: str) -> None:
        """Draw the slot's last request no further than its next step; what is finished stays."""
        with self._guard:
            if (last := self._newest.get(slot)) in self._waiting:
                self._write({"cancel": last})

    def newest(self, request: Shared, slot: str) -> bool:
        """Whether nothing was asked for in its place since."""
        return self._newest.get(slot) == request.id

    def _answers(self, inbox: "queue.Queue[Answer]") -> Iterator[Answer]:
        while True:
            answer = inbox.get()
            if answer["kind"] == "error":
                raise UserError(
                    answer.get("problem", "no reason given"), answer.get("where", ""), answer.get("fix", "")
                )
            yield answer
            if answer["kind"] in ("done", "cancelled"):
                return

    def _start(self) -> None:
        if self._process and self._process.poll() is None:
            return
        with (self.home / "preview.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                env={**environment(), "OMP_NUM_THREADS": _threads()},
            )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _write(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            logging.warning("the preview process does not listen: %s", error)  # `_listen` tells whoever waits

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        idle = False
        for line in process.stdout:
            try:
                answer = json.loads(line)
                idle = answer["kind"] == "idle"
                waiting = self._waiting.get(answer["id"])
            except (ValueError, KeyError, TypeError):
                continue  # a library printed something: no answer
            if waiting:
                waiting.answers.put(answer)
        code = process.wait()
        with self._guard:
            if self._process is not process:
                return  # another was started since; who waits now waits for that one
            self._process = None
            if idle:
                self._ask_again()
                return
            for waiting in self._waiting.values():
                waiting.answers.put(self._dead(code))

    def _ask_again(self) -> None:
        """What was asked while the engine ended itself is asked of a new one."""
        for waiting in self._waiting.values():
            self._start()
            self._write(waiting.request.model_dump())

    def _dead(self, code: int) -> Answer:
        problem = f"the preview process ended (exit code {code})"
        fix = f"Draw again: it is started anew. What it said last is in {self.home / 'preview.log'}."
        return {"kind": "error", "problem": problem, "where": "Preview", "fix": fix}

    def close(self) -> None:
        """End the process, as closing its input does; it is forced after five seconds."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


def _threads() -> str:
    """Threads for the engine: half the cores, so that a training beside it keeps going."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 2) // 2))


_numbers = itertools.count(1)


def new_id() -> str:
    """A name for a request, and for its files, that no other has, of this server or of one before."""
    return f"p{time.time_ns():x}-{next(_numbers)}"
