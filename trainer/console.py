"""What a person at a terminal sees of a run: a bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LOG_SECONDS = 5.0


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:  # noqa: D102
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f} it/s" if speed else "- it/s", style="progress.data.speed")


class Reporter:
    """See `trainer.protocols.Report`: on a bar, or as lines where there is none."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None, loss="") if bar else None
        self._phase, self._said, self._began = "", 0.0, (0, 0.0)

    def told(self, what: str, done: int, total: int) -> None:
        """See `Report`."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total, loss="")
        elif what != self._phase:
            self._say(what)
        self._phase = what

    def said(self, text: str) -> None:
        """See `Report`."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            self._say(text)

    def training(self, step: int, total: int) -> None:
        """See `Report`."""
        self._phase, self._began = "training", (step, time.monotonic())
        if self._bar and self._task is not None:
            self._bar.reset(self._task, description="training", completed=step, total=total, loss="")
        self._total = total

    def step(self, step: int, loss: float, rate: float) -> None:
        """See `Report`."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, loss=f"loss {loss:.4f}")
        elif time.monotonic() - self._said >= LOG_SECONDS or step == self._total:
            first, began = self._began
            speed = (step - first) / max(time.monotonic() - began, 1e-9)
            left = (self._total - step) / max(speed, 1e-9)
            self._say(f"step {step}/{self._total}  loss {loss:.4f}  {speed:.2f} it/s  {left:.0f} s left")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        with suppress(OSError):  # a log on a full disk is no reason to lose a training
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            sys.stdout.flush()


@contextmanager
def reporter() -> Iterator[Reporter]:
    """A bar where standard error is a terminal, lines on standard output elsewhere."""
    if not sys.stderr.isatty():
        yield Reporter(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=10) as bar:
        yield Reporter(bar)
