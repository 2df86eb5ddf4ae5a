"""A run whose disk is full waits for room, with everything that was saved in its place."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.contract.files import DiskFull
from trainer.contract.rundir import FOREGROUND, RunDir, State

LOOK_SECONDS = 2.0  # between two tries


@dataclass
class Pause:
    """See `trainer.contract.files.Patience`.

    Attributes:
        run: says that it waits, and hears a stop that is asked for.
        say: tells a person.
        stop: set when a signal asks for a stop.
    """

    run: RunDir
    say: Callable[[str], None]
    stop: threading.Event
    _before: State | None = None
    _parent: int | None = field(default_factory=lambda: os.getppid() if os.environ.get(FOREGROUND) else None)

    def wait(self, error: DiskFull) -> bool:
        """See `Patience`. Nobody waits any longer when a stop is asked for, or the terminal is gone."""
        fix = "Free some space: it goes on by itself. Stop ends it; what was saved stays."
        if self._before is None:
            self._before = self.run.status().state
            self.say(f"paused: {error.problem} ({error.where}). {fix}")
        self.run.write_status(State.PAUSED, message=f"{error.problem}: {error.where}", fix=fix)
        end = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < end:
            if self.stop.is_set() or self.run.asked("stop") or self._orphaned():
                return False
            self.stop.wait(0.2)
        return True

    def over(self) -> None:
        """See `Patience`."""
        if self._before is not None:
            self.run.write_status(self._before)
            self._before = None
            self.say("there is room again: going on")

    def _orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent
