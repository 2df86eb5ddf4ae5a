"""Sample pictures of a run: when they are drawn, and what becomes of the run where that fails: nothing."""

import io
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from trainer.contract.config import RunConfig, interval
from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic
from trainer.contract.requests import SampleRequest, asked_samples, parse
from trainer.contract.rundir import RunDir
from trainer.device import ran_out
from trainer.protocols import Family, Text
from trainer.sampling import MOST_ROUNDS, SHARE, Rounds, Shot, affordable_rounds, draw, encode_pairs

MOST_FAILURES = 3  # rounds of samples in a row; then there is no more hope
Pairs = Sequence[tuple[Text, Text]]
Encode = Callable[[str, Sequence[str]], Pairs]


@dataclass
class Samples:
    """The sample pictures of a run.

    Attributes:
        run: its folder.
        prompts: of the samples.
        texts: gives (negative, positive) of every prompt.
        encode: the same of any negative prompt and prompts.
        faded: within it, the adapter has these strengths [B].
        total: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.
        make_room: gives up device memory that the steps hold between them, at the price of some time.
        showing: within it, the adapter is as it is to be used, see `Chores.showing`.
        living: is told after each drawing that the run lives.
        most: rows of a sheet, where they should be fewer than planned.
        work: seconds of the whole run without pictures.
        share: of the run's time that they may take, where nobody says when to draw them.
        rounds: when they are drawn; a "picture" of it is a prompt at all strengths.
        begun: whether the adapter has learned something before the first step.
    """

    run: RunDir
    config: RunConfig
    family: Family
    prompts: Sequence[str]
    texts: Callable[[], Pairs]
    encode: Encode
    faded: Callable[[Tensor], AbstractContextManager[None]]
    total: int
    steps_per_epoch: float
    make_room: Callable[[], None] = lambda: None
    showing: Callable[[], AbstractContextManager[None]] = nullcontext
    living: Callable[[], None] = lambda: None
    most: int | None = None
    work: float = 0.0
    share: float = SHARE
    begun: bool = False
    _bases: dict[int, Image.Image] = field(default_factory=dict)  # by prompt: at strength 0 nothing ever changes
    _failures: int = 0
    _lean: bool = False

    def __post_init__(self) -> None:
        self._choose_rhythm()

    def change(self, config: RunConfig, total: int, prompts: Sequence[str]) -> None:
        """Go on with other samples, or another length; new texts are encoded in the next round."""
        if (prompts, config.sampling.negative) != (self.prompts, self.config.sampling.negative):
            self.prompts, self.texts = prompts, texts_of(self.encode, config, prompts)
        self.config, self.total = config, total
        self._bases.clear()
        self._choose_rhythm()

    def _choose_rhythm(self) -> None:
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
        if (error := self._tried(lambda: self._sheet(step))) is None:
            self._failures = 0
            return
        self._failures += 1
        ending = "; no more are tried" if self._failures == MOST_FAILURES else ""
        self.run.emit("notice", text=f"no samples at step {step}: {type(error).__name__}: {error}{ending}")

    def answer(self, step: int) -> None:
        """Draw what people asked for meanwhile. What fails is told, and forgotten."""
        for path in asked_samples(self.run):
            name = path.stem.partition("-")[2]
            try:
                request = parse(SampleRequest, path.read_text("utf-8"))
                error = self._tried(lambda request=request, name=name: self._asked(step, name, request))
            except (UserError, OSError, UnicodeDecodeError) as refused:
                error = refused
            path.unlink(missing_ok=True)
            if error is not None:
                self.run.emit("unanswered", id=name, step=step, problem=f"{type(error).__name__}: {error}")

    def _tried(self, work: Callable[[], None]) -> Exception | None:
        """Do it, once more and leaner where memory is short; return what went wrong."""
        if self._lean:
            self.make_room()
        failed: Exception | None = None
        try:
            with self.showing():
                work()
        except Exception as error:  # noqa: BLE001 - a picture less is no reason to lose a training
            traceback.print_exc()
            failed = error.with_traceback(None)  # which would hold what was allocated
        short = failed is not None and ran_out(failed) and not self._lean
        if torch.cuda.is_available() and (failed is not None or self._lean):
            torch.cuda.empty_cache()
        if not short:
            return failed
        self._lean = True
        self.run.emit("notice", text="too little memory for samples beside the steps: drawn slower from now on")
        return self._tried(work)

    def _sheet(self, step: int) -> None:
        """Every prompt at every strength."""
        options, strengths = self.config.sampling, self.config.sampling.strengths
        count = min(self.rounds.prompts, self.most or self.rounds.prompts)
        rows = zip(*self._at(strengths, self.texts), strict=True)
        stamps = [time.monotonic()]
        for index, (row, prompt) in enumerate(zip(rows, self.prompts[:count], strict=False)):
            images = self._sheet_row(step, index, row)
            for strength, image in zip(strengths, images, strict=True):
                self._keep(step, str(index), (prompt, options.seed + index, strength), image)
            stamps.append(time.monotonic())
        if step == 0 or not self.rounds.seconds:
            fewer = max(1, sum(map(bool, strengths))) if self._untrained(step) else 1
            self._timed([(after - before) * fewer for before, after in pairwise(stamps)])

    def _untrained(self, step: int) -> bool:
        """Whether the adapter adds nothing yet, so that every strength shows the base."""
        return step == 0 and not self.begun

    def _sheet_row(self, step: int, index: int, texts: Pairs) -> list[Image.Image]:
        """A prompt at every strength of the settings; the base is drawn once a run."""
        strengths, seed = self.config.sampling.strengths, self.config.sampling.seed + index
        if self._untrained(step):
            (self._bases[index],) = self._row(texts[:1], seed, strengths[:1])
            return [self._bases[index]] * len(strengths)
        if 0 in strengths and index not in self._bases:  # alone: in a batch that is larger once, bits would differ
            (self._bases[index],) = self._row([texts[strengths.index(0)]], seed, [0])
        left = [at for at, strength in enumerate(strengths) if strength]
        drawn = self._row([texts[at] for at in left], seed, [strengths[at] for at in left]) if left else []
        images = dict(zip(left, drawn, strict=True))
        return [images.get(at) or self._bases[index] for at in range(len(strengths))]

    def _asked(self, step: int, name: str, request: SampleRequest) -> None:
        strengths = request.strengths or self.config.sampling.strengths
        negative = self.config.sampling.negative if request.negative is None else request.negative
        seed = self.config.sampling.seed if request.seed is None else request.seed
        rows = zip(*self._at(strengths, lambda: self.encode(negative, [request.prompt])), strict=True)
        files = [
            self._keep(step, name, (request.prompt, seed, strength), image, id=name)
            for row in rows
            for strength, image in zip(strengths, self._row(row, seed, strengths), strict=True)
        ]
        self.run.emit("answered", id=name, step=step, files=files)

    def _at(self, strengths: Sequence[float], texts: Callable[[], Pairs]) -> Iterator[Pairs]:
        """The texts once for each strength: a trained text encoder fades too, a frozen one is not asked again."""
        found: Pairs | None = None
        for strength in strengths:
            if found is None or self.config.adapter.text_encoder:
                with self.faded(torch.tensor([strength])):
                    found = texts()
            yield found

    def _row(self, texts: Pairs, seed: int, strengths: Sequence[float]) -> list[Image.Image]:
        options, side = self.config.sampling, self.family.resolution
        shot = Shot(side, side, options.steps, options.guidance, options.sampler, self._lean)
        lots = [slice(at, at + 1) for at in range(len(strengths))] if self._lean else [slice(None)]
        images: list[Image.Image] = []
        for lot in lots:
            with self.faded(torch.tensor(strengths[lot])):
                images += draw(self.family, shot, texts[lot], seed)
            self.living()
        return images

    def _keep(self, step: int, label: str, told: tuple[str, int, float], image: Image.Image, **more: str) -> str:
        prompt, seed, strength = told
        name = f"s{step:06d}-{label}" + (".png" if strength == 1 else f"-{strength:g}.png")
        replace_atomic(self.run.samples / name, lambda path: path.write_bytes(_png(image)))
        self.run.emit("sample", step=step, prompt=prompt, seed=seed, strength=strength, file=name, **more)
        return name

    def _timed(self, taken: Sequence[float]) -> None:
        """The rows of the first round that succeeded took this long; the first one also warms up."""
        seconds = fmean(taken[1:] or taken)
        self.rounds = replace(self.rounds, seconds=seconds)
        if self.config.sampling.every == "auto":
            self.rounds = affordable_rounds(self.rounds.prompts, self.total, self.work, seconds, self.share)
        # Kept, because a resume would measure other times, and pictures should not change their rhythm.
        self.run.write_engine({**self.run.engine(), "samples": asdict(self.rounds)})


def prompt_encoder(family: Family, config: RunConfig) -> Encode:
    """Encodes prompts, see `encode_pairs`; a frozen text encoder is loaded for it and forgotten again."""

    def encode(negative: str, prompts: Sequence[str]) -> Pairs:
        pairs = encode_pairs(family, negative, prompts)
        if not config.adapter.text_encoder:
            family.release(*family.encoders)
        return pairs

    return encode


def sample_texts(family: Family, encode: Encode, config: RunConfig, prompts: Sequence[str]) -> Callable[[], Pairs]:
    """As `texts_of`; frozen text encoders are forgotten here, and asked again only where the samples change later."""
    texts = texts_of(encode, config, prompts)
    if config.adapter.text_encoder:
        return texts
    if config.sampling.every != "never":
        texts()
    family.release(*family.encoders)
    return texts


def texts_of(encode: Encode, config: RunConfig, prompts: Sequence[str]) -> Callable[[], Pairs]:
    """Gives (negative, positive) of every sample prompt, as the text encoders are at that moment; frozen ones, once."""

    def texts() -> Pairs:
        return encode(config.sampling.negative, prompts)

    return texts if config.adapter.text_encoder else cache(texts)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
