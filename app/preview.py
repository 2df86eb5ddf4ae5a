"""The resident picture engine, seen from the page: one process a web server, kept warm, newest request first.

The engine is `python -P -m trainer serve` (see `trainer.contract.requests`). Requests of one slot (a page) replace each
other: while the slider moves, only where it stops is drawn to the end. The next request starts a dead engine anew.
"""

import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.jobs.executors.local import environment
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest

COMMAND = (sys.executable, "-P", "-m", "trainer", "serve")
Answer = dict[str, Any]


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
    _waiting: dict[str, "queue.Queue[Answer]"] = field(default_factory=dict)
    _newest: dict[str, str] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def draw(self, request: GenerateRequest, slot: str) -> Iterator[Answer]:
        """Send a request in the place of the slot's last one; yield its answers up to `done` or `cancelled`.

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
            inbox: queue.Queue[Answer] = queue.Queue()
            with self._guard:
                self._waiting[request.id] = inbox
                self._start()
                self._write(request.model_dump())
            try:
                yield from self._answers(inbox)
            finally:
                with self._guard:
                    self._waiting.pop(request.id, None)

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
        for line in process.stdout:
            try:
                answer = json.loads(line)
                inbox = self._waiting.get(answer["id"])
            except (ValueError, KeyError, TypeError):
                continue  # a library printed something: no answer
            if inbox:
                inbox.put(answer)
        code = process.wait()
        problem = f"the preview process ended (exit code {code})"
        fix = f"Draw again: it is started anew. What it said last is in {self.home / 'preview.log'}."
        dead = {"kind": "error", "problem": problem, "where": "Preview", "fix": fix}
        with self._guard:
            if self._process is not process:
                return  # another was started since; who waits now waits for that one
            self._process = None
            for inbox in self._waiting.values():
                inbox.put(dead)

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
    """A name for a request that no other of this process has."""
    return f"p{os.getpid()}-{next(_numbers)}"
