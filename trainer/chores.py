"""Everything rare in a run, behind one due-check: reports, samples, checkpoints, requests, the end."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TextIO

import torch
from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.contract.config import RunConfig, interval
from trainer.contract.errors import UserError
from trainer.contract.latents import free
from trainer.contract.length import Length
from trainer.contract.preflight import Preflight
from trainer.contract.rates import effective
from trainer.contract.remarks import remarks
from trainer.contract.rundir import FOREGROUND, RunDir, State
from trainer.data.cache import Cache
from trainer.export.saves import AdapterFiles
from trainer.ledger import Ledger
from trainer.pictures.length import length_of
from trainer.preflight import driver_spills, memory
from trainer.protocols import Family, Report
from trainer.samples import Samples
from trainer.stall import expect_life
from trainer.state import save_checkpoint
from trainer.tracking import Trackers
from trainer.validation import Validation

REPORT_SECONDS = 0.5  # how old the page's view of a run may be
SAFETY_SECONDS = 60.0  # a crash loses at most this much, whatever save_every says
SAVED_PER_SECOND = 200e6  # bytes of a checkpoint, flushed to a slow SSD
KEEP = 3  # checkpoints on disk
STALL_SECONDS, STALL_STEPS = 300.0, 20  # without a finished step; then the log gets a stack of every thread
MOST_LOST = 3  # steps in a row without a finite loss and gradient

Gathered = Callable[[], Mapping[str, Tensor]]


@dataclass
class Chores:
    """The rare work of a run.

    Attributes:
        run: its folder.
        samples: pictures drawn while training.
        validation: the loss on held-out pictures.
        total: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.
        report: hears what is told to a person.
        stop: set by a signal handler; asks for a stop like `requests/stop` does.
        shown: gives the matrices that samples and file are made with, where those are not the trained ones.
        shown_at: names the pictures that a step learned from.
    """

    run: RunDir
    config: RunConfig
    family: Family
    adapter: Adapter
    cache: Cache
    samples: Samples
    validation: Validation
    total: int
    steps_per_epoch: float
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)
    shown: Callable[[], Tensor | None] = lambda: None
    shown_at: Callable[[int], Sequence[str]] = lambda step: ()
    _ledger: Ledger = field(default_factory=Ledger)
    _reported: float = 0.0
    _saved: float = 0.0
    _saved_step: int = -1
    _lost: int = 0
    _seconds: float = 0.0
    _log: TextIO | None = None
    _trackers: Trackers = field(init=False)

    def __post_init__(self) -> None:
        self._save_every = interval(self.config.training.save_every, self.total, self.steps_per_epoch)
        self.samples.showing = self.validation.showing = self.showing
        self.samples.living = self._drawn
        self._parent = os.getppid() if os.environ.get(FOREGROUND) else None

    def change(self, config: RunConfig, total: int, since: int) -> None:
        """Go on with other samples, checkpoints, or another length, see `trainer.contract.amendments`.

        Args:
            config: from now on.
            total: optimiser steps of the whole run from now on.
            since: the step at which somebody last said how long the run is to be, -1 for its beginning.
        """
        self.config, self.total = config, total
        self._save_every = interval(config.training.save_every, total, self.steps_per_epoch)
        self.samples.change(config, total, config.sampling.prompts or self.cache.prompts)
        self.validation.change(total, since)

    def begin(self, step: int, seconds: float, tensors: Mapping[str, Tensor]) -> None:
        """Say that training starts after `step` steps, and what it will take.

        Args:
            step: steps done.
            seconds: that a step takes; 0 where none is left.
            tensors: what a checkpoint holds.
        """
        self._saved_step, self._seconds = step if step else -1, seconds
        self._trackers = Trackers(self.run, self.config, step)
        pictures, matrices = len(self.cache.originals), len(self.adapter.layers)
        self.run.emit("start", step=step, total=self.total, pictures=pictures, modules=matrices)
        size = sum(tensor.nbytes for tensor in tensors.values())
        self.samples.work = self.validation.work = sum(self._work_left(0, seconds, size))
        self.validation.begin(step)
        if step == 0 and self.samples.rounds.every is not None:
            self.run.write_status(State.PREPARING, total=self.total, message="drawing the first samples")
            self.report.told("drawing the first samples", 0, 1)
            self.samples.draw(0)
        if step < self.total:
            self._announce(step, seconds, *self._work_left(step, seconds, size))
        self._reported = self._saved = time.monotonic()
        self._living(State.TRAINING, step=step, total=self.total)
        self.report.training(step, self.total)

    def _work_left(self, step: int, seconds: float, size: int) -> tuple[float, float]:
        """Seconds that the steps after `step` take, and their checkpoints of `size` bytes."""
        left = self.total - step
        planned, overdue = left / self._save_every if self._save_every else 0, left * seconds / SAFETY_SECONDS
        return left * seconds, (1 + max(planned, overdue)) * size / SAVED_PER_SECOND

    def _announce(self, step: int, seconds: float, learning: float, saving: float) -> None:
        rounds, now, rate = self.samples.rounds, memory(self.family.engine.device), effective(self.config)
        measuring = self.validation.seconds_left(step)
        drawing = rounds.left(step, self.total) * rounds.prompts * rounds.seconds
        found = Preflight(
            rung=self.family.engine.rung,
            seconds_per_step=seconds,
            steps_left=self.total - step,
            samples_every=rounds.every,
            samples_prompts=rounds.prompts,
            samples_seconds=drawing,
            saves_seconds=saving,
            seconds_left=learning + saving + drawing + measuring,
            validation_seconds=measuring,
            length=self._length(),
            rate=rate.rate,
            rate_made=rate.made,
            **now.shown(),
        )
        self.run.emit("preflight", **found.as_dict())
        for text in filter(None, (found.lengths(), found.words(), self._files().planned(step, self._save_every))):
            self.report.said(text)
        for remark in remarks(self.config, self.total):
            if remark not in remarks(self.config, self.config.training.steps):  # those were said at once
                self.run.emit("notice", text=str(remark))
                self.report.said(str(remark))
        if said := now.short(driver_spills()):
            self.run.emit("notice", text=said)
            self.report.said(said)

    def _length(self) -> Length:
        turns, learned = [row.turn for row in self.cache.pictures], sum(not row.prior for row in self.cache.originals)
        return length_of(self.total, self.config.training, turns, learned)

    def record(self, step: int, loss: Tensor, norm: Tensor, rates: Mapping[str, float]) -> None:
        """Note a step; its numbers are read from the device at the next report."""
        self._ledger.add(step, loss, norm, rates)

    def due(self, step: int) -> bool:
        """Whether anything below may have to be done. The first step is told of at once."""
        waited = time.monotonic() - self._reported >= REPORT_SECONDS
        return step == 1 or waited or self.stop.is_set() or self._orphaned() or self._hits(step)

    def _hits(self, step: int) -> bool:
        saving = self._save_every is not None and step % self._save_every == 0
        return saving or self.samples.due(step) or self.validation.due(step)

    def _orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _stopping(self) -> bool:
        return self.stop.is_set() or self.run.asked("stop") or self._orphaned()

    def _drawn(self) -> None:
        """Show that the run lives, after each drawing. A stop ends the first sheet; the next start begins it anew."""
        state = self.run.status().state
        self._living(state)
        if state == State.PREPARING and self._stopping():
            raise KeyboardInterrupt

    def attend(self, step: int, tensors: Gathered) -> bool:
        """Do what is due. Return False when someone asked to stop: all is saved then.

        Args:
            step: steps done.
            tensors: gathers what a checkpoint holds; some optimisers have thousands, so it is asked only to save.
        """
        sampling, validating = self.samples.due(step), self.validation.due(step)
        asked = self.run.take_request("save")
        overdue = time.monotonic() - self._saved >= SAFETY_SECONDS
        planned = self._save_every is not None and step % self._save_every == 0
        saving = asked or overdue or planned
        self._report(step, everything=step == 1 or sampling or saving or validating)
        if validating:
            self.validation.attend(step)
        if sampling:
            self.samples.draw(step)
        self.samples.answer(step)
        if (asked or planned) and not self._lost:
            self._export_save(step)
        if saving:
            self._save(step, tensors)
        if self._stopping():
            self._report(step, everything=True)
            self._save(step, tensors, leaving=True)
            self._export_save(step)  # behind the checkpoint: whoever stopped may not wait
            self._trackers.close()
            self.run.write_status(State.STOPPED, step=step, message=f"Stopped and saved at step {step}.")
            return False
        return True

    def finish(self, step: int, tensors: Gathered) -> None:
        """Save the end, draw the last samples, write the adapter file, let go of the cache."""
        self._report(step, everything=True)
        if torch.cuda.is_available():
            allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            self.run.emit("memory", allocated=allocated, reserved=reserved)
        self.validation.attend(step)
        self._save(step, tensors, leaving=True)
        self.samples.draw(step)
        self.samples.answer(step)
        with self.showing():
            files = self._files()
            found = files.at_end(step) + files.as_plain(self.report.told)
        for text in found:
            self.run.emit("notice", text=text)
            self.report.said(text)
        self._trackers.close()
        self.run.write_status(State.DONE, step=step, message=f"Finished: {self.run.adapter_file.name}")
        free(self.run.cache)  # last: until then a resume needs it

    def _report(self, step: int, everything: bool) -> None:
        for line in self._ledger.read(everything):
            if not (math.isfinite(line.loss) and math.isfinite(line.norm)):
                self._left_out(line.step)
                continue
            self._lost = 0
            numbers = {"loss": round(line.loss, 6), "norm": round(line.norm, 5)}
            self.run.emit("step", step=line.step, **numbers, rate=line.rates["unet"], rates=line.rates)
            self.report.step(line.step, line.loss, line.rates["unet"])
        self._trackers.follow()
        self._reported = time.monotonic()
        self._living(State.TRAINING, step=step, total=self.total)

    def _living(self, state: State, **values: Any) -> None:
        """Show that the run lives; if it never does so again, its log tells where every thread stands."""
        self.run.write_status(state, **values)
        if self._log is None:
            self._log = self.run.log.open("a", encoding="utf-8")
        expect_life(max(STALL_SECONDS, STALL_STEPS * self._seconds), self._log)

    def _left_out(self, step: int) -> None:
        """A step came to nothing, which a single broken picture can do; several in a row are the training itself."""
        self._lost += 1
        names = ", ".join(self.shown_at(step))
        text = f"step {step} was left out: its loss or gradient is not a number (pictures: {names})"
        self.run.emit("notice", text=text)
        self.report.said(text)
        if self._lost == MOST_LOST:
            raise UserError(
                f"{MOST_LOST} steps in a row, up to step {step}, gave no numbers (pictures of the last: {names})",
                "optimizer.learning_rate",
                "The last checkpoint is from before that. Start again with a third of the learning rate; where it is "
                "always the same picture, take that one out.",
            )

    def _save(self, step: int, tensors: Gathered, leaving: bool = False) -> None:
        if step == self._saved_step:
            return
        if self._lost and not leaving:
            return  # what is on disk is from before the trouble, and is to stay there
        path = save_checkpoint(self.run, step, tensors(), KEEP)
        self._saved, self._saved_step = time.monotonic(), step
        self.run.emit("save", step=step, file=path.name)

    def _export_save(self, step: int) -> None:
        with self.showing():
            self._files().at_save(step)

    def _files(self) -> AdapterFiles:
        made_of = self.run, self.config, self.family, self.cache, self.adapter
        return AdapterFiles(*made_of, self.total, self.steps_per_epoch)

    def showing(self) -> AbstractContextManager[None]:
        """Within this, the adapter is as it is to be used: see `trainer.protocols.Optimizer.shown`."""
        return self.adapter.arena.showing(self.shown())
