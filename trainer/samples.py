"""Sample pictures of a run: when they are drawn, and what becomes of the run where that fails: nothing."""

import io
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean

import torch
from PIL import Image

from trainer.contract.config import RunConfig, interval
from trainer.contract.files import replace_atomic
from trainer.contract.rundir import RunDir
from trainer.device import ran_out
from trainer.protocols import Family, Text
from trainer.sampling import MOST_ROUNDS, SHARE, Rounds, Shot, affordable_rounds, draw

MOST_FAILURES = 3  # rounds of samples in a row; then there is no more hope


@dataclass
class Samples:
    """The sample pictures of a run.

    Attributes:
        run: its folder.
        prompts: of the samples.
        texts: gives (negative, positive) of every prompt.
        total: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.
        make_room: gives up device memory that the steps hold between them, at the price of some time.
        most: pictures of a round, where it should be fewer than planned.
        work: seconds of the whole run without pictures.
        share: of the run's time that they may take, where nobody says when to draw them.
        cover: the first picture of the last round, as PNG.
        rounds: when they are drawn.
    """

    run: RunDir
    config: RunConfig
    family: Family
    prompts: Sequence[str]
    texts: Callable[[], Sequence[tuple[Text, Text]]]
    total: int
    steps_per_epoch: float
    make_room: Callable[[], None] = lambda: None
    most: int | None = None
    work: float = 0.0
    share: float = SHARE
    cover: bytes | None = None
    _failures: int = 0
    _lean: bool = False

    def __post_init__(self) -> None:
        every = self.config.sampling.every
        # Until the first picture is timed, as if it took no time.
        asked = f"{100 / MOST_ROUNDS}%" if every == "auto" else every
        kept = self.run.engine().get("samples") if every == "auto" else None
        self.rounds = Rounds(interval(asked, self.total, self.steps_per_epoch), len(self.prompts))
        self.rounds = Rounds(**kept) if kept else self.rounds

    def due(self, step: int) -> bool:
        """Whether a round belongs to this step; the one at the end is not told of here."""
        every = self.rounds.every
        return every is not None and step % every == 0 and step < self.total

    def draw(self, step: int) -> None:
        """Draw a round. Whatever goes wrong with a picture, the run goes on."""
        if self.rounds.every is None or self._failures == MOST_FAILURES:
            return
        if self._lean:
            self.make_room()
        short = False
        try:
            self._draw(step)
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - a picture less is no reason to lose a training
            traceback.print_exc()
            short = ran_out(error) and not self._lean
            if not short:
                self._failures += 1
                ending = "; no more are tried" if self._failures == MOST_FAILURES else ""
                self.run.emit("notice", text=f"no samples at step {step}: {type(error).__name__}: {error}{ending}")
        if torch.cuda.is_available() and (short or self._failures or self._lean):
            torch.cuda.empty_cache()  # here, where the error no longer holds what was allocated
        if short:
            self._lean = True
            self.run.emit("notice", text="too little memory for samples beside the steps: drawn slower from now on")
            self.draw(step)

    def _draw(self, step: int) -> None:
        options, side = self.config.sampling, self.family.resolution
        shot = Shot(side, side, options.steps, options.guidance, options.sampler, self._lean)
        count = min(self.rounds.prompts, self.most or self.rounds.prompts)
        stamps = [time.monotonic()]
        for index, image in enumerate(draw(self.family, shot, self.texts()[:count], options.seed)):
            name = f"s{step:06d}-{index}.png"
            replace_atomic(self.run.samples / name, lambda path, image=image: path.write_bytes(_png(image)))
            self.run.emit("sample", step=step, prompt=self.prompts[index], seed=options.seed + index, file=name)
            if index == 0:
                self.cover = _png(image)
            stamps.append(time.monotonic())
        if step == 0 or not self.rounds.seconds:
            self._timed([after - before for before, after in pairwise(stamps)])

    def _timed(self, taken: Sequence[float]) -> None:
        """The pictures of the first round that succeeded took this long; the first one also warms up."""
        seconds = fmean(taken[1:] or taken)
        self.rounds = replace(self.rounds, seconds=seconds)
        if self.config.sampling.every == "auto":
            self.rounds = affordable_rounds(self.rounds.prompts, self.total, self.work, seconds, self.share)
        # Kept, because a resume would measure other times, and pictures should not change their rhythm.
        self.run.write_engine({**self.run.engine(), "samples": asdict(self.rounds)})


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
