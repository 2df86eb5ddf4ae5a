"""Config -> Run: the only place that builds one, and the only reader of the whole config."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.adapters.starting import check_start, start_from
from trainer.chores import Chores
from trainer.compiling import settle
from trainer.contract.amendments import (
    REQUEST,
    Amendment,
    amended,
    asking,
    last_length,
    pending,
    place,
    read_amendments,
    write_down,
)
from trainer.contract.catalog import optimizer_row, pick, resolve
from trainer.contract.checkpoints import SUCCEEDS
from trainer.contract.config import RunConfig, interval
from trainer.contract.errors import UserError
from trainer.contract.rates import part_rate, peak_rates
from trainer.contract.remarks import remarks
from trainer.contract.rundir import RunDir, State
from trainer.contract.schedules import share
from trainer.data import draws
from trainer.data.batches import Batches
from trainer.data.cache import Cache, build_cache
from trainer.data.order import Order
from trainer.data.store import store_of
from trainer.data.texts import encode_now, read_texts
from trainer.device import Engine, choose_engine, choose_layout, processes, room
from trainer.families.locate import load_family
from trainer.graph import Graphed
from trainer.loading import latent_pixels, load_adapted, trained_layers, with_kernels
from trainer.objectives.chosen import Objective
from trainer.objectives.diffusion import alphas_cumprod
from trainer.optim.build import build, rehearse
from trainer.optim.saved import load_around
from trainer.optim.scaling import Checked
from trainer.pictures.length import planned_steps
from trainer.pictures.origin import check_origin
from trainer.preflight import seconds_per_step
from trainer.protocols import Batch, Family, Optimizer, Report, Text
from trainer.samples import Samples, prompt_encoder, sample_texts
from trainer.sampling import VALIDATION_SHARE
from trainer.state import MASTER, Checkpoint, has_checkpoint, load_latest
from trainer.validation import Bands, HeldOut, Validation
from trainer.weights.nf4 import bitsandbytes

UNET = "unet"  # the part that learns to the end


@dataclass
class AssembledRun:
    """See `trainer.protocols.Run`.

    Attributes:
        objective: what is learned.
        text, tokens: see `table` and `tokens` of `Words`; both are None where a batch brings its texts along.
        chores: everything rare.
        engine: how a step is computed.
        amendments: what was changed since the run began.
    """

    config: RunConfig
    family: Family
    adapter: Adapter
    optimizer: Checked
    batches: Batches
    chores: Chores
    objective: Objective
    text: Text | None
    tokens: Tensor | None
    total: int
    engine: Engine
    amendments: tuple[Amendment, ...]

    def __post_init__(self) -> None:
        arena = self.adapter.arena
        self.accumulation = self.config.training.accumulation
        self._first = self.total
        if self.amendments:
            self._change_length(self.amendments[-1].total)
        self._schedule = cache(partial(share, self.config))  # by total; amendments change nothing else of it
        self._peaks = peak_rates(self.config, arena.groups)
        self._parts = {part: part_rate(self.config, part) for part in map(_part, arena.groups)}
        until = interval(self.config.adapter.text_encoder_until, self._first, self.chores.steps_per_epoch)
        self._settled = math.inf if until is None else until  # step from which on the text encoders learn no more
        self.chores.shown = self.optimizer.shown
        self.chores.shown_at = self._shown_at
        self._bands = self.chores.validation.bands
        if self.batches.cache.held:
            self.chores.validation.hold(HeldOut(self.batches, self.errors))
            self.chores.samples.share -= VALIDATION_SHARE
        self._learn: Callable[[Batch], Tensor] = self._forward_backward
        if self.engine.graph and optimizer_row(self.config.optimizer.name).graph != "none":
            self._learn = Graphed(
                self._forward_backward,
                [arena.added, self._bands.sums],
                [self.adapter.dropout.generator],
                lambda text: self.chores.run.emit("notice", text=text),
            )
            self.chores.samples.make_room = self.chores.validation.make_room = self._learn.forget

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds; the rest is a function of the config and the step."""
        return {MASTER: self.adapter.arena.master, **self.optimizer.state()}

    def restore(self) -> int:
        """See `trainer.protocols.Run`."""
        found, step = load_latest(self.chores.run, self.chores.report.said), 0
        if found is not None:
            step = found.step
            take_back(found, self.optimizer, self.adapter)
        self.chores.samples.begun = found is not None or self.config.adapter.start != ""
        self._amend(step)
        if self.chores.validation.ended(step):
            self._change_length(step)
        self.chores.report.told("measuring a step", 0, 1)
        seconds = seconds_per_step(self, step, self.engine.device) if step < self.total else 0.0
        if self.engine.compile and step < self.total:
            seconds = self._compile(step, seconds)
        self.chores.begin(step, seconds, self.tensors())
        return step

    def _compile(self, step: int, seconds: float) -> float:
        """Try compiled blocks, write down what came of it; return what a step takes now."""
        run = self.chores.run
        self.chores.report.told("compiling", 0, 1)
        forget = self._learn.forget if isinstance(self._learn, Graphed) else lambda: None
        found = settle(self, self.adapter.arena.added, self.family.regions(), step, seconds, forget)
        run.write_engine({**run.engine(), "compile": not found.objection})
        if found.objection:
            run.emit("notice", text=f"without torch's compiler: {found.objection}")
        return found.seconds

    def zero(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        self.adapter.arena.added.zero_()
        self._loss = torch.zeros((), device=self.engine.device)  # the loop adds to it
        return self._loss

    def learn(self, micro_step: int) -> Tensor:
        """See `trainer.protocols.Run`."""
        if self.tokens is not None and micro_step >= self._settled * self.accumulation:
            self._settle_text()
        batch, dropout = self.batches.batch(micro_step), self.adapter.dropout
        place = draws.generator(self.config.training.seed, draws.DROPOUT, micro_step, self.batches.order.rank)
        dropout.generator.manual_seed(place.initial_seed())
        return self._learn(batch)

    def _settle_text(self) -> None:
        """The text encoders learn no more: every caption is encoded once, and what was recorded with them forgotten."""
        self.optimizer.settle([group for group in self.adapter.arena.groups if _part(group) != UNET])
        self.text, self.tokens = encode_now(self.family, self.tokens), None
        self.chores.samples.make_room()

    def _forward_backward(self, batch: Batch) -> Tensor:
        self.adapter.dropout.begin()
        noisy = self.objective.noisy(batch)
        with self.engine.applied():
            before = None if batch.prior is None else self._without_adapter(batch, noisy)
            answer = self._predict(batch, noisy)
            loss = self.objective.loss(answer, batch, before) / self.accumulation
            self._bands.add(batch.timesteps, self.objective.plain_error(answer.detach(), batch))
            self.optimizer.scaled(loss).backward()
        return loss.detach()

    @torch.no_grad()
    def errors(self, batch: Batch) -> Tensor:
        """[B] plain squared error with the adapter as it is; nothing is learned or drawn."""
        with self.engine.applied():
            return self.objective.plain_error(self._predict(batch, self.objective.noisy(batch)), batch)

    def _predict(self, batch: Batch, noisy: Tensor) -> Tensor:
        return self.family.predict(noisy, batch.timesteps, self._condition(batch), batch.sizes)

    @torch.no_grad()
    def _without_adapter(self, batch: Batch, noisy: Tensor) -> Tensor:
        with self.adapter.off():
            return self._predict(batch, noisy)

    def _condition(self, batch: Batch) -> Text:
        if batch.hidden is not None and batch.pooled is not None:
            return Text(batch.hidden, batch.pooled)
        if self.text is not None:
            return self.text.pick(batch.captions)
        return self.family.encode_tokens(self.tokens[batch.captions])

    def clip(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        return self.optimizer.clip(self.config.optimizer.clip_norm, self._loss)

    def rates(self, step: int) -> Mapping[str, float]:
        """See `trainer.protocols.Run`."""
        share, learning = self._share(step), step < self._settled
        return {group: peak * share for group, peak in self._peaks.items() if learning or _part(group) == UNET}

    def _share(self, step: int) -> float:
        at, total = place(self._first, self.amendments, step)
        return self._schedule(total)(at)

    def record(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """See `trainer.protocols.Run`. A step that was left out has no numbers."""
        if not self.optimizer.overflowed:
            share, learning = self._share(step - 1) * self.optimizer.found(), step - 1 < self._settled
            rates = {part: share * peak for part, peak in self._parts.items() if learning or part == UNET}
            self.chores.record(step, loss, norm, rates)

    def _shown_at(self, step: int) -> list[str]:
        """Names of the pictures that a step learned from."""
        micros = range((step - 1) * self.accumulation, step * self.accumulation)
        rows = (self.batches.cache.pictures[number] for micro in micros for number in self.batches.order.batch(micro))
        return list(dict.fromkeys(row.name for row in rows))

    def due(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        return self.chores.due(step)

    def attend(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        self._amend(step)
        going = self.chores.attend(step, self.tensors)
        if self.chores.validation.enough:
            self._change_length(step)
        return going

    def _amend(self, step: int) -> None:
        """Take a change that is asked for; it counts from here on, and again in every resume."""
        run = self.chores.run
        if not run.asked(REQUEST):
            return
        with asking(run):
            if (wanted := pending(run)) is None:
                return
            self.config = amended(self.config, [wanted])
            total = max(step, total_steps(self.config, self.batches.cache, self.batches.order))
            self.amendments = write_down(run, replace(wanted, step=step, total=total))
        run.emit("amended", step=step, total=total, changes=wanted.changes, rate=wanted.rate)
        self._change_length(total)

    def _change_length(self, total: int) -> None:
        self.total = total
        self.chores.change(self.config, total, last_length(self.amendments))

    def finish(self, step: int) -> None:
        """See `trainer.protocols.Run`."""
        self.chores.finish(step, self.tensors)


def take_back(found: Checkpoint, optimizer: Optimizer, adapter: Adapter) -> None:
    """Put a checkpoint into a run that was just made; of another run's, the adapter only.

    Raises:
        UserError: it belongs to other settings.
    """
    arena, other = adapter.arena, found.about.get(SUCCEEDS)
    if other is None:
        load_around(optimizer, {MASTER: arena.master}, found.tensors)
    else:
        saved = found.tensors.get(MASTER)
        if saved is None or saved.shape != arena.master.shape:
            problem = f"the adapter of {other} does not fit this run's settings"
            raise UserError(problem, "checkpoints", "Start a new run with these settings: atelier train.")
        arena.master.copy_(saved)
    arena.publish()


def assemble(run: RunDir, report: Report) -> AssembledRun:
    """Build a run from its folder: engine, base, pictures, adapter, optimiser.

    Args:
        run: its folder.
        report: hears what is being done.

    Raises:
        UserError: anything that was asked for cannot be done; no step has been taken.
        torch.OutOfMemoryError: the UNet and its adapter do not fit, stored as engine.json says.
    """
    begun = run.config()
    check_origin(run)
    amendments = read_amendments(run)
    config = amended(begun, [*amendments, *filter(None, [pending(run)])])
    run.write_status(State.PREPARING, message="loading the base model")
    report.told("loading the base model", 0, 1)
    rehearse(config)
    _tell(run, report, map(str, remarks(config, config.training.steps)))
    engine = with_kernels(run, choose_engine(config, run.engine()).apply())
    start = _say_what_is_missing(run, config)
    # Text encoders and VAE are the same on every rung of the memory ladder.
    with room("to load this model", "engine.memory", "Close what else uses the card, or take a smaller model."):
        family = load_family(config.model, engine)
        trained_layers(family, config)  # says now what is wrong with them
        pixels = config.training.batch_size * latent_pixels(family, config)
        family.engine = choose_layout(engine, pixels)
        cache = build_cache(run, store_of(run), family, report.told)
        report.told("reading captions", 0, 1)
        family.park("vae")  # until the first sample
        words = read_texts(run, store_of(run), family, config, cache)
        encode = prompt_encoder(family, config)
        texts = sample_texts(family, encode, config, words.prompts)
    report.told("loading the UNet", 0, 1)
    engine, adapter = load_adapted(run, family, config, pixels)
    _tell(run, report, start_from(start, adapter, family.layout()) if start else ())
    turns = [picture.turn for picture in cache.pictures]
    order = Order(turns, config.training.batch_size, config.training.seed, *processes(engine))
    total = total_steps(begun, cache, order)
    signal = alphas_cumprod(family.scheduler).to(engine.device)
    objective = Objective(config.objective, family.prediction, signal)
    batches = Batches(cache, words.rows, order, config, len(signal), engine.device, words.host)
    epoch = order.batches_per_epoch / config.training.accumulation
    optimizer = build(adapter.arena, config, adapter.sizes)
    samples = Samples(run, config, family, words.prompts, texts, encode, adapter.faded, total, epoch)
    validation = Validation(run, Bands(len(signal), engine.device), total, epoch)
    chores = Chores(run, config, family, adapter, cache, samples, validation, total, epoch, report)
    rest = words.table, words.tokens, total, engine, amendments
    return AssembledRun(config, family, adapter, optimizer, batches, chores, objective, *rest)


def _tell(run: RunDir, report: Report, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        run.emit("notice", text=sentence)
        report.said(sentence)


def _say_what_is_missing(run: RunDir, config: RunConfig) -> Path | None:
    """Look for packages and files that the run needs, before any weight is loaded. Raises UserError.

    Returns:
        The adapter file to start from; None also where a checkpoint holds what began with it.
    """
    options = config.adapter
    if config.engine.base == "nf4":
        bitsandbytes()
    resolve(pick("adapter.method", options.method))
    if not options.start or has_checkpoint(run):
        return None
    start = Path(options.start).expanduser()
    check_start(start, options.method)
    return start


def _part(group: str) -> str:
    return group.partition(".")[0]


def total_steps(config: RunConfig, cache: Cache, order: Order) -> int:
    """Optimiser steps of the run, see `trainer.pictures.length`."""
    learned = sum(not picture.prior for picture in cache.originals)
    return planned_steps(config.training, order.turns, learned, order.processes)
