"""Where a run stands that has stopped moving: a stack of every thread, written into its log.

faulthandler alone would do it from outside of Python, and reads the frames of threads that may be running: a process
that was only slow could die of that. So a thread of ours, which runs when no other does, comes first; faulthandler is
for a process in which nothing of Python runs any more, and whose frames stand still.
"""

import faulthandler
import sys
import threading
import time
import traceback
from typing import TextIO

HELD = 2  # times the limit: until it is clear that somebody keeps all of Python waiting


class _Watch:
    """One for the process, as faulthandler is."""

    def __init__(self) -> None:
        self._told = threading.Condition()
        self._deadline, self._log = float("inf"), sys.stderr
        self._thread: threading.Thread | None = None

    def set(self, deadline: float, log: TextIO) -> None:
        with self._told:
            self._deadline, self._log = deadline, log
            if self._thread is None and deadline < float("inf"):
                self._thread = threading.Thread(target=self._look, name="stall", daemon=True)
                self._thread.start()
            self._told.notify()

    def _look(self) -> None:
        with self._told:
            while True:
                if (left := self._deadline - time.monotonic()) > 0:
                    self._told.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                faulthandler.cancel_dump_traceback_later()
                self._deadline = float("inf")
                _write(self._log)


def _write(log: TextIO) -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    for ident, frame in sys._current_frames().items():
        if ident != own:
            log.write(f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    log.flush()


_watch = _Watch()


def expect_life(within: float, log: TextIO) -> None:
    """Write the stacks into a log unless this is called again, or `expect_nothing`, within that many seconds."""
    faulthandler.dump_traceback_later(HELD * within, file=log)
    _watch.set(time.monotonic() + within, log)


def expect_nothing() -> None:
    """Expect no more."""
    faulthandler.cancel_dump_traceback_later()
    _watch.set(float("inf"), sys.stderr)
