"""Config -> Run: the only place that builds one, and the only reader of the whole config."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from trainer.adapters.lora import LoraAdapter
from trainer.chores import Chores
from trainer.contract.catalog import ADAPTERS, optimizer_row, resolve
from trainer.contract.config import RunConfig, interval
from trainer.contract.errors import UserError
from trainer.contract.ladder import RUNGS
from trainer.contract.rates import part_rate, peak_rates, rate_warnings
from trainer.contract.rundir import RunDir, State
from trainer.contract.schedules import share
from trainer.data import draws
from trainer.data.batches import Batches
from trainer.data.cache import Cache, build_cache
from trainer.data.order import Order
from trainer.data.store import store_of
from trainer.data.texts import Words, encode_now, read_texts
from trainer.device import Engine, choose_attention, choose_engine, choose_layout, ran_out
from trainer.families.locate import load_family
from trainer.graph import Graphed
from trainer.kernels.check import trouble
from trainer.memory import plan
from trainer.objectives import add_noise, alphas_cumprod, min_snr_weight, target, weighted_mse
from trainer.optim.build import build, rehearse
from trainer.optim.saved import load_around
from trainer.optim.scaling import LossScale, clip_gradient
from trainer.pictures.epochs import prior_views
from trainer.preflight import seconds_per_step
from trainer.protocols import Batch, Family, Optimizer, Report, Text
from trainer.sampling import encode_pairs
from trainer.state import load_latest
from trainer.weights.nf4 import bitsandbytes


@dataclass
class AssembledRun:
    """See `trainer.protocols.Run`.

    Attributes:
        signal: [T] alphas_cumprod on the device.
        text, tokens: see `Words`; one of them is None.
        chores: everything rare.
        engine: how a step is computed.
    """

    config: RunConfig
    family: Family
    adapter: LoraAdapter
    optimizer: Optimizer
    batches: Batches
    chores: Chores
    signal: Tensor
    text: Text | None
    tokens: Tensor | None
    total: int
    engine: Engine

    def __post_init__(self) -> None:
        arena = self.adapter.arena
        self.accumulation = self.config.training.accumulation
        self._share = share(self.config, self.total)
        self._peaks = peak_rates(self.config, arena.groups)
        until = interval(self.config.adapter.text_encoder_until, self.total, self.chores.steps_per_epoch)
        self._settled = self.total if until is None else until  # step from which on the text encoders learn no more
        self.chores.shown = self.optimizer.shown
        self._scale = self.optimizer if isinstance(self.optimizer, LossScale) else None
        self._learn: Callable[[Batch], Tensor] = self._forward_backward
        if self.engine.graph and optimizer_row(self.config.optimizer.name).graph != "none":
            self._learn = Graphed(
                self._forward_backward,
                [arena.added],
                [self.adapter.dropout.generator],
                lambda text: self.chores.run.emit("notice", text=text),
            )
            self.chores.make_room = self._learn.forget

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds; the rest is a function of the config and the step."""
        return {"master": self.adapter.arena.master, **self.optimizer.state()}

    def restore(self) -> int:
        """See `trainer.protocols.Run`."""
        found, step = load_latest(self.chores.run), 0
        if found is not None:
            step, tensors = found
            mine = {"master": self.adapter.arena.master}
            load_around(self.optimizer, mine, tensors)
            self.adapter.arena.publish()
        self.chores.report.told("measuring a step", 0, 1)
        seconds = seconds_per_step(self, step, self.engine.device) if step < self.total else 0.0
        self.chores.begin(step, seconds, self.tensors())
        return step

    def zero(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        self.adapter.arena.added.zero_()
        return torch.zeros((), device=self.signal.device)

    def learn(self, micro_step: int) -> Tensor:
        """See `trainer.protocols.Run`."""
        if self.tokens is not None and micro_step >= self._settled * self.accumulation:
            self._settle_text()
        batch, dropout = self.batches.batch(micro_step), self.adapter.dropout
        seed = draws.generator(self.config.training.seed, draws.DROPOUT, micro_step).initial_seed()
        dropout.generator.manual_seed(seed)
        return self._learn(batch)

    def _settle_text(self) -> None:
        """The text encoders learn no more: every caption is encoded once, and what was recorded with them forgotten."""
        self.optimizer.settle([group for group in self.adapter.arena.groups if not _of_unet(group)])
        self.text, self.tokens = encode_now(self.family, self.tokens), None
        self.chores.make_room()

    def _forward_backward(self, batch: Batch) -> Tensor:
        self.adapter.dropout.begin()
        signal, prediction = self.signal[batch.timesteps], self.family.prediction
        noisy = add_noise(batch.clean, batch.noise, signal)
        with self.engine.applied():
            answer = self.family.predict(noisy, batch.timesteps, self._condition(batch), batch.sizes)
            wanted = target(prediction, batch.clean, batch.noise, signal)
            loss = weighted_mse(answer, wanted, self._weight(signal), batch.weight) / self.accumulation
            (loss * self._scale.factor if self._scale else loss).backward()
        return loss.detach()

    def _condition(self, batch: Batch) -> Text:
        if self.text is not None:
            return self.text.pick(batch.captions)
        return self.family.encode_tokens(self.tokens[batch.captions])

    def _weight(self, signal: Tensor) -> Tensor:
        gamma = self.config.objective.snr_gamma
        return torch.ones_like(signal) if gamma == "off" else min_snr_weight(signal, gamma, self.family.prediction)

    def clip(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        limit = self.config.optimizer.clip_norm
        return self._scale.clip(limit) if self._scale else clip_gradient(self.adapter.arena, limit)

    def rates(self, step: int) -> Mapping[str, float]:
        """See `trainer.protocols.Run`."""
        share, learning = self._share(step), step < self._settled
        return {group: peak * share for group, peak in self._peaks.items() if learning or _of_unet(group)}

    def record(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """See `trainer.protocols.Run`. A step that was left out has no numbers."""
        if not (self._scale and self._scale.skipped):
            rate = self._share(step - 1) * part_rate(self.config, "unet") * self.optimizer.found()
            self.chores.record(step, loss, norm, rate)

    def due(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        return self.chores.due(step)

    def attend(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        return self.chores.attend(step, self.tensors)

    def finish(self, step: int) -> None:
        """See `trainer.protocols.Run`."""
        self.chores.finish(step, self.tensors)


def assemble(run: RunDir, report: Report) -> AssembledRun:
    """Build a run from its folder: engine, base, pictures, adapter, optimiser.

    Args:
        run: its folder.
        report: hears what is being done.

    Raises:
        UserError: anything that was asked for cannot be done; no step has been taken.
        torch.OutOfMemoryError: the UNet and its adapter do not fit, stored as engine.json says.
    """
    config = run.config()
    run.write_status(State.PREPARING, message="loading the base model")
    report.told("loading the base model", 0, 1)
    rehearse(config)
    for said in rate_warnings(config):
        run.emit("notice", text=said)
        report.said(said)
    engine = with_kernels(run, choose_engine(config, run.engine()).apply())
    if config.engine.base == "nf4":
        bitsandbytes()  # says so now if it is missing
    with _no_rung_helps():
        family = load_family(config.model, engine)
        pixels = config.training.batch_size * latent_pixels(family, config)
        family.engine = choose_layout(engine, pixels)
        cache = build_cache(run, store_of(run), family, report.told)
        report.told("reading captions", 0, 1)
        family.park("vae")  # until the first sample
        words = read_texts(run, store_of(run), family, config, cache)
        samples = sample_texts(family, config, words)
    report.told("loading the UNet", 0, 1)
    engine, adapter = load_adapted(run, family, config, pixels)
    turns = [picture.turn for picture in cache.pictures]
    order = Order(turns, config.training.batch_size, config.training.seed)
    total = total_steps(config, cache, order)
    signal = alphas_cumprod(family.scheduler).to(engine.device)
    batches = Batches(cache, words.rows, order, config, len(signal), engine.device)
    epoch = order.batches_per_epoch / config.training.accumulation
    chores = Chores(run, config, family, adapter, cache, words.prompts, samples, total, epoch, report)
    optimizer = build(adapter.arena, config)
    return AssembledRun(
        config, family, adapter, optimizer, batches, chores, signal, words.table, words.tokens, total, engine
    )


def _of_unet(group: str) -> bool:
    return group.partition(".")[0] == "unet"


def training_side(family: Family, config: RunConfig) -> int:
    """Side in pixels of the square whose area the run's largest pictures have."""
    return max(config.dataset.resolutions(family.resolution))


def with_kernels(run: RunDir, engine: Engine) -> Engine:
    """Go without our kernels where they cannot run.

    Raises:
        UserError: they were asked for by name.
    """
    if engine.kernels != "triton" or not (reason := trouble()):
        return engine
    if run.config().engine.kernels == "triton":
        raise UserError(f"our kernels cannot run here: {reason}", "engine.kernels", "Leave it at auto.")
    run.emit("notice", text=f"slower, without our own kernels, which cannot run here: {reason}")
    return replace(engine, kernels="torch")


@contextmanager
def _no_rung_helps() -> Iterator[None]:
    """Text encoders and VAE are the same on every rung of the memory ladder."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        problem = "the GPU has too little free memory to load this model"
        raise UserError(problem, "engine.memory", "Close what else uses the card, or take a smaller model.") from error


def load_adapted(run: RunDir, family: Family, config: RunConfig, pixels: int) -> tuple[Engine, LoraAdapter]:
    """Choose how the UNet is held, load it so, and put the adapter into it.

    Args:
        run: is told what was chosen.
        family: its UNet is not loaded yet.
        config: the run's.
        pixels: latent pixels of a batch.
    """
    options, side = config.adapter, training_side(family, config)
    shapes = family.attentions(config.training.batch_size, side, side) if family.engine.device.type == "cuda" else []
    family.engine, found = choose_attention(family.engine, shapes)
    if found:
        run.emit("attention", **asdict(found))
    targets = family.targets(options.targets, options.text_encoder)
    trained = options.rank * sum(map(sum, family.widths(targets)))
    engine = family.engine = plan(run, family.engine, family, pixels, trained)
    parts = {target.part: family.part(target.part) for target in targets}
    adapter: LoraAdapter = resolve(ADAPTERS[options.method])(targets, parts, options, config.training.seed)
    family.checkpoint(RUNGS[engine.rung].share)
    return engine, adapter


def latent_pixels(family: Family, config: RunConfig) -> int:
    """Latent pixels of one picture of the run, about."""
    side = training_side(family, config)
    _, height, width = family.latent_shape(side, side)
    return height * width


def sample_texts(family: Family, config: RunConfig, words: Words) -> Callable[[], list[tuple[Text, Text]]]:
    """Gives (negative, positive) of every sample prompt, as the text encoders are at that moment.

    Where they are frozen they are forgotten here.
    """
    negative, prompts = config.sampling.negative, words.prompts
    if config.adapter.text_encoder:
        return lambda: encode_pairs(family, negative, prompts)
    samples = [] if config.sampling.every == "never" else encode_pairs(family, negative, prompts)
    family.release(*family.encoders)
    return lambda: samples


def total_steps(config: RunConfig, cache: Cache, order: Order) -> int:
    """Optimiser steps of the run, from whichever of steps, epochs and views was given.

    Views count the pictures that are learned, each once: repeats tell what share of them a picture gets, and
    regularisation pictures come on top.
    """
    training = config.training
    if training.steps:
        return training.steps
    if training.epochs:
        return max(1, math.ceil(training.epochs * order.batches_per_epoch / training.accumulation))
    learned = sum(not picture.prior for picture in cache.originals)
    mine = sum(turn.repeats for turn in order.turns if not turn.prior)
    views = (training.views or 1) * learned * Fraction(mine + sum(prior_views(order.turns).values()), mine)
    return max(1, math.ceil(views / (training.batch_size * training.accumulation)))
