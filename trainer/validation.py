"""The loss on held-out pictures, and the loss of each band of timesteps on trained ones.

Both are the plain mean squared error of the base's own prediction type, whatever the run's objective is: so runs of
different objectives can be compared. Held-out pictures get the same noise and the same timesteps in every round of
every run, from generators of their own: the training's draws are not touched, and neither are recorded graphs.

Shapes: B batch, C latent channels, h x w latent size.
"""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from statistics import fmean

import torch
from torch import Tensor

from trainer.contract.config import interval
from trainer.contract.rundir import RunDir
from trainer.contract.validation import BANDS, Round, over_fits, rounds_of, rounds_since_lowest
from trainer.data import draws
from trainer.data.batches import Batches
from trainer.data.views import CachedPicture
from trainer.device import ran_out
from trainer.protocols import Batch
from trainer.sampling import VALIDATION_SHARE, Rounds

GRID = 8  # timesteps that every held-out picture is measured at, two in each band
ENDS_AT = "ends_at"  # in engine.json: the step after which a run was found to have learned enough
MOST = 20  # rounds of a run, after the one at the start
OVER_FITTING = (
    "over-fitting has begun: held-out pictures get worse while those that are trained on get better. "
    "The run learns them by heart from here on; an earlier checkpoint may be the better file"
)


class Bands:
    """Mean error of what was trained on, for each band of timesteps; added up on the device until somebody reads it."""

    def __init__(self, timesteps: int, device: torch.device) -> None:
        self.sums = torch.zeros(2, BANDS, device=device)  # of errors, of samples
        self._numbers, self._timesteps = torch.arange(BANDS, device=device)[:, None], timesteps

    @torch.no_grad()
    def add(self, timesteps: Tensor, errors: Tensor) -> None:
        """Add samples [B] with their errors [B]; waits for nothing, so that a graph may hold it."""
        own = (timesteps * BANDS // self._timesteps == self._numbers).float()
        self.sums += torch.stack((torch.where(own > 0, errors, 0.0).sum(1), own.sum(1)))

    def take(self) -> tuple[float | None, ...]:
        """Mean of each band since the last time, None where nothing fell into it. Waits for the device."""
        sums, counts = self.sums.tolist()
        self.sums.zero_()
        return tuple(
            total / count if count and math.isfinite(total) else None for total, count in zip(sums, counts, strict=True)
        )


@dataclass
class HeldOut:
    """The held-out pictures as batches.

    Attributes:
        batches: knows the cache, the texts and the device.
        errors: squared error [B] of a batch, as the adapter is now.
        size: pictures in a forward pass.
    """

    batches: Batches
    errors: Callable[[Batch], Tensor]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.batches.order.batch_size
        rows = {row.key: row for row in self.batches.cache.held}  # of several resolutions the largest, the last
        count = self.batches.timesteps
        grid = [(2 * number + 1) * count // (2 * GRID) for number in range(GRID)]
        ordered = sorted(rows.values(), key=lambda row: (row.bucket, row.digest, row.key))
        self._shapes = [
            [(row, timestep) for row in same for timestep in grid]
            for _, same in groupby(ordered, key=lambda row: row.bucket)
        ]

    @torch.no_grad()
    def measure(self) -> tuple[float, tuple[float, ...]]:
        """(mean error, mean error of each band)."""
        asked = list(self._asked())
        found = torch.cat([self.errors(self._batch(rows)).float() for rows in asked]).tolist()
        bands: list[list[float]] = [[] for _ in range(BANDS)]
        for (_, timestep), error in zip([one for rows in asked for one in rows], found, strict=True):
            bands[timestep * BANDS // self.batches.timesteps].append(error)
        return fmean(found), tuple(map(fmean, bands))

    def _asked(self) -> Iterator[list[tuple[CachedPicture, int]]]:
        for rows in self._shapes:
            yield from (rows[first : first + self.size] for first in range(0, len(rows), self.size))

    def _batch(self, asked: Sequence[tuple[CachedPicture, int]]) -> Batch:
        """Each picture as it is: not mirrored, the first crop, the mean of its latents, its first caption."""
        source = self.batches
        views = [row.views[0] for row, _ in asked]
        clean = torch.stack([source.cache.latents.posterior(view).mean for view in views])
        places = [draws.generator(0, draws.VALIDATION, row.digest, timestep) for row, timestep in asked]
        noise = torch.stack([torch.randn(clean.shape[1:], generator=place) for place in places])
        timesteps = torch.tensor([timestep for _, timestep in asked])
        captions = torch.tensor([source.texts[row.texts[0]] for row, _ in asked])
        sizes = torch.tensor([view.sizes for view in views], dtype=torch.float32)
        texts = (None, None) if source.host is None else source.host.pick(captions)
        batch = Batch(clean, noise, timesteps, captions, sizes, None, *texts)
        return Batch(*(part if part is None else part.to(source.device) for part in batch))


@dataclass
class Validation:
    """Measures at its times, tells of it, and says when the run has learned enough.

    Attributes:
        run: its folder.
        bands: of what is trained on.
        total: optimiser steps of the whole run.
        steps_per_epoch: of them in one pass over the set.
        held: what is measured; None where nothing is held out.
        make_room: gives up device memory that the steps hold between them.
        showing: within it, the adapter is as it is to be used, see `trainer.chores.Chores.showing`.
        since: the step at which somebody last said how long the run is to be: what was told before does not end it.
        work: seconds of the whole run without pictures and measurements.
        enough: whether the run is to end early, see `validation.stop_after`.
    """

    run: RunDir
    bands: Bands
    total: int
    steps_per_epoch: float
    held: HeldOut | None = None
    make_room: Callable[[], None] = lambda: None
    showing: Callable[[], AbstractContextManager[None]] = nullcontext
    since: int = -1
    work: float = 0.0
    enough: bool = False

    def __post_init__(self) -> None:
        self.options, self._warned = self.run.config().validation, False
        self._choose_rhythm()

    def hold(self, held: HeldOut) -> None:
        """Measure these from now on."""
        self.held = held
        self._choose_rhythm()

    def change(self, total: int, since: int) -> None:
        """Go on with another length, see `since`."""
        self.total, self.since = total, since
        self._choose_rhythm()

    def _choose_rhythm(self) -> None:
        self._told = max(1, self.total // MOST)  # steps from one word on the bands to the next
        every = "never" if self.held is None else self.options.every
        asked = f"{100 / MOST}%" if every == "auto" else every
        kept = self.run.engine().get("validation") if every == "auto" else None
        found = Rounds(interval(asked, self.total, self.steps_per_epoch), 1)
        self.rounds = Rounds(**kept) if kept else found

    def ended(self, step: int) -> bool:
        """Whether the run was found to have learned enough at this step, before it was killed."""
        return step > self.since and self.run.engine().get(ENDS_AT) == step

    def seconds_left(self, step: int) -> float:
        """That the measurements to come take."""
        return self.rounds.left(step, self.total) * self.rounds.seconds

    def due(self, step: int) -> bool:
        """Whether something is told of this step; what is told at the end is not told of here."""
        every = self.rounds.every
        return step < self.total and (step % self._told == 0 or (every is not None and step % every == 0))

    def begin(self, step: int) -> None:
        """Before the first step, or where a resume goes on."""
        self.bands.take()  # of steps that were only measured
        self._rounds = rounds_of(list(self.run.events()), step)
        self._warned = any(over_fits(self._rounds[:number]) for number in range(1, len(self._rounds) + 1))
        if step == 0 and self.rounds.every is not None:
            self._measure(0, None)

    def attend(self, step: int) -> None:
        """Tell of the bands; measure where that is due, and at the end."""
        every, found = self.rounds.every, self.bands.take()
        if any(loss is not None for loss in found):
            self.run.emit("bands", step=step, bands=[loss if loss is None else round(loss, 6) for loss in found])
        if every is not None and (step % every == 0 or step == self.total):
            known = [loss for loss in found if loss is not None]
            self._measure(step, fmean(known) if len(known) == BANDS else None)

    def _measure(self, step: int, training: float | None) -> None:
        """Whatever goes wrong with a measurement, the run goes on."""
        if self.held is None or (self._rounds and self._rounds[-1].step == step):
            return
        began = time.monotonic()
        try:
            with self.showing():
                loss, bands = self.held.measure()
        except Exception as error:  # noqa: BLE001 - a number less is no reason to lose a training
            traceback.print_exc()
            self._failed(step, error)
            return
        if not math.isfinite(loss):
            return  # the training's own loss says it, with advice
        self._rounds = [one for one in self._rounds if one.step < step]
        self._rounds.append(Round(step, round(loss, 6), tuple(round(one, 6) for one in bands), training))
        told = {**asdict(self._rounds[-1]), "training": None if training is None else round(training, 6)}
        self.run.emit("validation", **told)
        if not self.rounds.seconds:
            self._timed(time.monotonic() - began)
        self._judge(step)

    def _failed(self, step: int, error: Exception) -> None:
        short = ran_out(error) and self.held is not None and self.held.size > 1
        text = f"{type(error).__name__}: {error}; it is not tried again"
        if short and self.held is not None:
            self.held.size = 1
            self.make_room()
            text = "too little memory beside the steps; from now on picture by picture"
        else:
            self.held, self.rounds = None, replace(self.rounds, every=None)
        self.run.emit("notice", text=f"no loss on held-out pictures at step {step}: {text}")

    def _timed(self, seconds: float) -> None:
        """The first round that succeeded took this long."""
        self.rounds = replace(self.rounds, seconds=seconds)
        if self.options.every == "auto":
            budget = self.work * VALIDATION_SHARE / (1 - VALIDATION_SHARE)
            rounds = min(int(budget / max(seconds, 1e-9)) - 1, MOST)  # without the one at the start
            self.rounds = replace(self.rounds, every=math.ceil(self.total / max(1, rounds)))
        self.run.write_engine({**self.run.engine(), "validation": asdict(self.rounds)})

    def _judge(self, step: int) -> None:
        if not self._warned and over_fits(self._rounds):
            self._warned = True
            self.run.emit("notice", text=f"step {step}: {OVER_FITTING}")
        patience = self.options.stop_after
        without = min(rounds_since_lowest(self._rounds), sum(one.step > self.since for one in self._rounds))
        if patience and step < self.total and without >= patience:
            self.enough = True
            self.run.write_engine({**self.run.engine(), ENDS_AT: step})
            text = f"ends at step {step}: {patience} measurements in a row without a new lowest validation loss"
            self.run.emit("notice", text=text)
