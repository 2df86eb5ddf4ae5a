"""Config -> Run: the only place that builds one, and the only reader of the whole config."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.adapters.lora import LoraAdapter
from trainer.chores import Chores
from trainer.contract.catalog import ADAPTERS, pick, resolve
from trainer.contract.config import RunConfig
from trainer.contract.rundir import RunDir, State
from trainer.data import draws
from trainer.data.batches import Batches
from trainer.data.cache import build_cache
from trainer.data.order import Order
from trainer.device import choose_engine
from trainer.families.locate import load_family
from trainer.objectives import add_noise, alphas_cumprod, min_snr_weight, target, weighted_mse
from trainer.optim import clip_gradient, warmup_steps
from trainer.protocols import Batch, Family, Optimizer
from trainer.state import load_latest, restore

Told = Callable[[str, int, int], None]  # what is being done, how much is done, of how much
CACHE_FILE = "cache.safetensors"


@dataclass
class AssembledRun:
    """See `trainer.protocols.Run`.

    Attributes:
        signal: [T] alphas_cumprod on the device.
        text: [captions + 1, L, D] embeddings, or None where the text encoder is trained.
        dropout: generator of the rank dropout.
        chores: everything rare.
    """

    config: RunConfig
    family: Family
    adapter: LoraAdapter
    optimizer: Optimizer
    batches: Batches
    chores: Chores
    signal: Tensor
    text: Tensor | None
    total: int
    dropout: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        training, optimizer = self.config.training, self.config.optimizer
        self.accumulation = training.accumulation
        self._shape: Callable[[float], float] = resolve(pick("schedule.name", self.config.schedule.name))
        self._warmup = warmup_steps(self.config.schedule.warmup, self.total)
        rates = {"unet": optimizer.learning_rate, "text_encoder": optimizer.text_encoder_rate}
        self._peaks = {group: rates[group.partition(".")[0]] for group in self.adapter.arena.groups}
        self.adapter.set_dropout(self.config.adapter.dropout, self.dropout)

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds; the rest is a function of the config and the step."""
        return {"master": self.adapter.arena.master, **self.optimizer.state()}

    def restore(self) -> int:
        """See `trainer.protocols.Run`."""
        found = load_latest(self.chores.run)
        if found is None:
            self.chores.begin(0)
            return 0
        step, tensors = found
        restore(tensors, self.tensors())
        self.adapter.arena.publish()
        self.chores.begin(step)
        return step

    def zero(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        self.adapter.arena.grad.zero_()
        return torch.zeros((), device=self.signal.device)

    def loss(self, micro_step: int) -> Tensor:
        """See `trainer.protocols.Run`."""
        batch = self.batches.batch(micro_step)
        self.dropout.manual_seed(draws.generator(self.config.training.seed, draws.DROPOUT, micro_step).initial_seed())
        signal, prediction = self.signal[batch.timesteps], self.family.prediction
        noisy = add_noise(batch.clean, batch.noise, signal)
        answer = self.family.predict(noisy, batch.timesteps, self._condition(batch))
        return weighted_mse(answer, target(prediction, batch.clean, batch.noise, signal), self._weight(signal))

    def _condition(self, batch: Batch) -> Tensor:
        return self.family.encode_tokens(batch.tokens) if self.text is None else self.text[batch.captions]

    def _weight(self, signal: Tensor) -> Tensor:
        gamma = self.config.objective.snr_gamma
        return torch.ones_like(signal) if gamma == "off" else min_snr_weight(signal, gamma, self.family.prediction)

    def clip(self) -> Tensor:
        """See `trainer.protocols.Run`."""
        return clip_gradient(self.adapter.arena, self.config.optimizer.clip_norm)

    def rates(self, step: int) -> Mapping[str, float]:
        """See `trainer.protocols.Run`."""
        if step < self._warmup:
            share = (step + 1) / (self._warmup + 1)
        else:
            share = self._shape((step - self._warmup) / max(1, self.total - self._warmup))
        return {group: peak * share for group, peak in self._peaks.items()}

    def record(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """See `trainer.protocols.Run`."""
        self.chores.record(step, loss, norm, self.rates(step - 1)["unet.B"])

    def due(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        return self.chores.due(step)

    def attend(self, step: int) -> bool:
        """See `trainer.protocols.Run`."""
        return self.chores.attend(step, self.tensors())

    def finish(self, step: int) -> None:
        """See `trainer.protocols.Run`."""
        self.chores.finish(step, self.tensors())


def assemble(run: RunDir, told: Told) -> AssembledRun:
    """Build a run from its folder: engine, base, pictures, adapter, optimiser.

    Raises:
        UserError: anything that was asked for cannot be done; no step has been taken.
    """
    config = run.config()
    run.write_status(State.PREPARING, message="loading the base model")
    told("loading the base model", 0, 1)
    engine = choose_engine(config, run.engine()).apply()
    run.write_engine(engine.choices())
    family = load_family(config.model.base, engine)
    cache = build_cache(
        run.path / CACHE_FILE, family, config.dataset, lambda done, total: told("reading pictures", done, total)
    )
    for sentence in cache.skipped:
        run.emit("notice", text=f"skipped {sentence}")
    captions = [picture.caption for picture in cache.pictures]
    tokens = family.tokenize([*captions, ""])
    text = None if config.adapter.text_encoder else encode_all(family, tokens)
    targets = family.targets(config.adapter.targets, config.adapter.text_encoder)
    adapter: LoraAdapter = resolve(ADAPTERS[config.adapter.method])(
        targets, family.parts, config.adapter, config.training.seed
    )
    optimizer: Optimizer = resolve(pick("optimizer.name", config.optimizer.name))(adapter.arena, config.optimizer)
    order = Order([picture.bucket for picture in cache.pictures], config.training.batch_size, config.training.seed)
    total = total_steps(config, len(cache.pictures), order)
    signal = alphas_cumprod(family.scheduler).to(engine.device)
    batches = Batches(cache.pictures, order, config, tokens, len(signal), engine.device)
    chores = Chores(run, config, family, adapter, cache, total, order.batches_per_epoch / config.training.accumulation)
    return AssembledRun(config, family, adapter, optimizer, batches, chores, signal, text, total)


@torch.no_grad()
def encode_all(family: Family, tokens: Tensor) -> Tensor:
    """[N, L] token ids -> [N, L, D] embeddings, a few at a time."""
    return torch.cat([family.encode_tokens(part) for part in tokens.split(32)])


def total_steps(config: RunConfig, pictures: int, order: Order) -> int:
    """Optimiser steps of the run, from whichever of steps, epochs and views was given."""
    training = config.training
    if training.steps:
        return training.steps
    if training.epochs:
        return max(1, math.ceil(training.epochs * order.batches_per_epoch / training.accumulation))
    return max(1, math.ceil((training.views or 1) * pictures / (training.batch_size * training.accumulation)))
