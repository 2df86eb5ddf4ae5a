"""What is allowed and hardly meant: sentences at the setting that should be looked at. No torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainer.contract.catalog import optimizer_row
from trainer.contract.config import RunConfig
from trainer.contract.rates import effective, usual_rates
from trainer.contract.schedules import schedule_name

ROUNDS = {
    "training.save_every": "checkpoint",
    "sampling.every": "sample picture",
    "validation.every": "measurement",
}
LEAST_STEPS = 50  # at an optimiser's own rate: of fewer one sees nothing


@dataclass(frozen=True)
class Remark:
    """A sentence on a setting.

    Attributes:
        setting: `section.key`.
        text: what is likely to happen, and what to do.
    """

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.text}"


def _rate(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    row = optimizer_row(config.optimizer.name)
    least, most = usual_rates(config)
    words, usual = effective(config), f"usual is {least:g} to {most:g} with {row.title}"
    rate = words.rate
    setting, up, down = "optimizer.learning_rate", "Raise it", "Lower it"
    if config.adapter.alpha_value != config.adapter.rank and "x alpha" in words.made:
        up, down = f"{up}, or set adapter.alpha=auto", f"{down}, or set adapter.alpha=auto"
    if rate < least:
        yield Remark(setting, f"{words} is likely to do nothing; {usual}. {up}.")
    elif rate > most:
        yield Remark(setting, f"{words} is likely to fry the model; {usual}. {down}.")
    elif steps is not None and rate * steps < LEAST_STEPS * row.rate:
        times = f"{steps} step{'s' * (steps != 1)}"
        yield Remark("training.steps", f"{times} at an {words} are likely to do nothing. Train longer.")


def _optimizer(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    row, ratio = optimizer_row(config.optimizer.name), config.optimizer.lora_plus_ratio
    if row.averages and schedule_name(config) != "constant":
        yield Remark("schedule.name", f"{row.title} does without a schedule and learns less with one. Set it to auto.")
    if ratio > 1 and (rate := effective(config).rate * ratio) > (most := usual_rates(config)[1]):
        text = f"B learns at {rate:g}, usual is up to {most:g}. Lower it, or the learning rate."
        yield Remark("optimizer.lora_plus_ratio", text)


def _average(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    if config.training.ema and not config.export.ema:
        text = "the average is kept, but neither samples nor file use it. Set export.ema=true too."
        yield Remark("training.ema", text)


def _zero_terminal(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    if config.model.zero_terminal_snr == "on" and config.objective.noise_offset:
        text = "a base with a zero terminal SNR learns dark and bright pictures without it. Set it to 0."
        yield Remark("objective.noise_offset", text)


def _longer_than_the_run(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    if steps is None:
        return
    if config.schedule.warmup >= max(1, steps):
        text = f"a warm-up of {config.schedule.warmup:g} steps is all of a run of {steps}. Give fewer, or a share."
        yield Remark("schedule.warmup", text)
    for setting, what in ROUNDS.items():
        every = str(config.value(setting))
        if every.isdecimal() and int(every) > steps:
            text = f"every {every} steps is longer than the run of {steps}: no {what} comes before its end. "
            yield Remark(setting, f"{text}Give fewer, or a share such as 20%.")
    until = config.adapter.text_encoder_until
    if until.isdecimal() and int(until) >= steps:
        text = f"the run has {steps} steps, so the text encoder learns to its end. Give fewer, or a share such as 50%."
        yield Remark("adapter.text_encoder_until", text)


CHECKS: tuple[Callable[[RunConfig, int | None], Iterator[Remark]], ...] = (
    _rate,
    _optimizer,
    _average,
    _zero_terminal,
    _longer_than_the_run,
)


def remarks(config: RunConfig, steps: int | None = None) -> list[Remark]:
    """Everything about a config that is hardly meant; `steps` is its length, where that is known."""
    return [remark for check in CHECKS for remark in check(config, steps)]
