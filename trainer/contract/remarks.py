"""What is allowed and hardly meant: sentences at the setting that should be looked at. No torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainer.contract.config import RunConfig

# Effective rates (learning rate x alpha / rank) of optimisers whose steps are as long as the rate, whatever the
# gradient. What people publish for SD 1.5 and SDXL lies between 2e-5 and 5e-4; the small practice base takes more.
USUAL = {"adamw": (1e-5, 1e-3)}
PRACTICE = 10.0  # times more
LEAST_PATH = 5e-3  # effective rate x steps: fifty steps at 1e-4, of which one sees nothing


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


def effective_rate(config: RunConfig) -> float:
    """Learning rate x alpha / rank: how fast the update of a weight grows, whatever alpha and rank are."""
    return config.optimizer.learning_rate * config.adapter.scale


def rate_words(config: RunConfig) -> str:
    """The effective rate and what it is made of."""
    options = config.adapter
    rank = f"sqrt(rank {options.rank})" if options.rslora else f"rank {options.rank}"
    made = f"{config.optimizer.learning_rate:g} x alpha {options.alpha_value:g} / {rank}"
    return f"effective rate {effective_rate(config):.3g} ({made})"


def _rate(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    if config.optimizer.name not in USUAL:
        return
    least, most = USUAL[config.optimizer.name]
    most *= PRACTICE if config.model.base == "demo" else 1
    rate, words, usual = effective_rate(config), rate_words(config), f"usual is {least:g} to {most:g}"
    setting, up, down = "optimizer.learning_rate", "Raise it", "Lower it"
    if config.adapter.alpha_value != config.adapter.rank:
        up, down = f"{up}, or set adapter.alpha=auto", f"{down}, or set adapter.alpha=auto"
    if rate < least:
        yield Remark(setting, f"{words} is likely to do nothing; {usual}. {up}.")
    elif rate > most:
        yield Remark(setting, f"{words} is likely to fry the model; {usual}. {down}.")
    elif steps is not None and rate * steps < LEAST_PATH:
        times = f"{steps} step{'s' * (steps != 1)}"
        yield Remark("training.steps", f"{times} at an {words} are likely to do nothing. Train longer.")


def _zero_terminal(config: RunConfig, steps: int | None) -> Iterator[Remark]:
    if config.model.zero_terminal_snr == "on" and config.objective.noise_offset:
        text = "a base with a zero terminal SNR learns dark and bright pictures without it. Set it to 0."
        yield Remark("objective.noise_offset", text)


CHECKS: tuple[Callable[[RunConfig, int | None], Iterator[Remark]], ...] = (_rate, _zero_terminal)


def remarks(config: RunConfig, steps: int | None = None) -> list[Remark]:
    """Everything about a config that is hardly meant; `steps` is its length, where that is known."""
    return [remark for check in CHECKS for remark in check(config, steps)]
