"""Which settings go together: what counts only under a condition, and what contradicts what.

A row here is all that a rule needs: the command line refuses by it before any weight is loaded, the page shows it at
the field. What a choice of the catalogue reads (`Row.reads`) becomes a rule by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.contract.catalog import CHOICES, optimizer_row
from trainer.contract.config import AdapterSection, RunConfig
from trainer.contract.rates import part_rate


@dataclass(frozen=True)
class Need:
    """A condition on one setting.

    Attributes:
        setting: `section.key`.
        words: what it has to be, after "is".
        holds: whether a value is that.
        example: a value that is.
    """

    setting: str
    words: str
    holds: Callable[[Any], bool]
    example: Any


def among(setting: str, *values: Any) -> Need:
    """It is one of these."""
    return Need(setting, " or ".join(map(shown, values)), lambda value: value in values, values[0])


def above(setting: str, least: float, example: float) -> Need:
    """It is a number above this one."""
    return Need(setting, f"above {least:g}", lambda value: value > least, example)


def shown(value: Any) -> str:
    """A value as it is written in a file or after `--set`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{name}" = {shown(own)}' for name, own in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class OnlyWith:
    """A setting that counts only where one of these holds. Several rows for one setting: all of them must."""

    setting: str
    needs: tuple[Need, ...]

    def met(self, config: RunConfig) -> bool:
        """Whether the setting counts."""
        return any(need.holds(value) for need in self.needs for value in _said(config, need.setting))

    def words(self) -> str:
        """When it counts, such as "only where objective.loss is huber or smooth_l1"."""
        return "only where " + ", or ".join(f"{need.setting} is {need.words}" for need in self.needs)

    def advice(self) -> str:
        """What to do about it where it does not."""
        return f"Leave it out, or set {self.needs[0].setting}={shown(self.needs[0].example)}."


def _said(config: RunConfig, setting: str) -> Iterator[Any]:
    """What a setting is: of the run, and of each of its further sets that says so itself."""
    yield config.value(setting)
    section, _, key = setting.partition(".")
    if section == "dataset":
        yield from (own for one in config.dataset.concepts if (own := getattr(one, key, None)) is not None)


@dataclass(frozen=True)
class Clash:
    """Settings that contradict each other.

    Attributes:
        settings: `section.key`; the first one names the mistake.
        found: whether a config has the contradiction.
        problem: what is wrong.
        fix: what to do.
    """

    settings: tuple[str, ...]
    found: Callable[[RunConfig], bool]
    problem: str
    fix: str


def _read_by_choices() -> Iterator[OnlyWith]:
    for choice, table in CHOICES.items():
        for setting in dict.fromkeys(name for row in table.values() for name in row.reads):
            readers = [name for name, row in table.items() if setting in row.reads]
            yield OnlyWith(setting, (among(choice, *readers),))


def _several_rates(config: RunConfig) -> bool:
    parts = ("unet", "text_encoder", "text_encoder_2") if config.adapter.text_encoder else ("unet",)
    one = optimizer_row(config.optimizer.name).one_rate
    return one and len({part_rate(config, part) for part in parts}) > 1


AVERAGING = Need(
    "optimizer.name", "one that keeps an average", lambda name: optimizer_row(name).averages, "schedulefree"
)
GPU = among("model.device", "auto", "cuda")
DRAWN = Need("sampling.every", "not never", lambda value: value != "never", "auto")
SPATIAL = Need(  # convolutions may be among the layers
    "adapter.targets", "everything or paths", lambda value: AdapterSection(targets=value).spatial, "everything"
)
HELD = Need("validation.share", "not 0", lambda value: value != 0, "auto")
OTHER_METHOD = Need("adapter.method", "another than lora", lambda name: name != "lora", "dora")
BENT = tuple(name for name, row in CHOICES["objective.loss"].items() if "objective.huber_c" in row.reads)

ONLY_WITH: tuple[OnlyWith, ...] = (
    *_read_by_choices(),
    OnlyWith("dataset.mask_floor", (among("dataset.masks", True),)),
    OnlyWith(
        "dataset.keep_tokens", (among("dataset.shuffle", "auto", "on"), above("dataset.tag_dropout", 0, example=0.1))
    ),
    *(
        OnlyWith(setting, (among("adapter.text_encoder", True),))
        for setting in (
            "optimizer.text_encoder_learning_rate",
            "optimizer.text_encoder_2_learning_rate",
            "adapter.text_encoder_rank",
            "adapter.text_encoder_alpha",
            "adapter.text_encoder_until",
        )
    ),
    OnlyWith("adapter.conv_rank", (SPATIAL,)),
    OnlyWith("adapter.conv_alpha", (SPATIAL,)),
    OnlyWith("schedule.final", (Need("schedule.name", "not constant", lambda name: name != "constant", "cosine"),)),
    OnlyWith("export.ema", (above("training.ema", 0, example=0.999), AVERAGING)),
    OnlyWith("export.plain_rank", (OTHER_METHOD,)),
    OnlyWith("tracking.project", (among("tracking.wandb", True),)),
    OnlyWith("objective.pyramid_discount", (above("objective.pyramid_iterations", 0, example=6),)),
    OnlyWith(
        "objective.stratified",
        (above("training.batch_size", 1, example=4), above("training.accumulation", 1, example=4)),
    ),
    OnlyWith("engine.memory", (GPU,)),
    OnlyWith("engine.attention", (GPU,)),
    OnlyWith("engine.deterministic", (GPU,)),
    OnlyWith("engine.autotune", (GPU,)),
    OnlyWith("engine.autotune", (among("engine.deterministic", False),)),
    *(OnlyWith(f"sampling.{key}", (DRAWN,)) for key in ("negative", "steps", "guidance", "sampler", "seed")),
    *(OnlyWith(f"validation.{key}", (HELD,)) for key in ("every", "seed", "stop_after")),
    OnlyWith("validation.stop_after", (Need("validation.every", "not never", DRAWN.holds, "auto"),)),
    OnlyWith("sampling.negative", (above("sampling.guidance", 1, example=5.0),)),
)

CLASHES: tuple[Clash, ...] = (
    Clash(
        ("optimizer.lora_plus_ratio", "optimizer.name"),
        lambda config: optimizer_row(config.optimizer.name).one_rate and config.optimizer.lora_plus_ratio != 1,
        "an optimiser that finds the rate itself finds one for all matrices, and LoRA+ asks for two",
        "Set it to 1, or take another optimiser.",
    ),
    Clash(
        ("optimizer.text_encoder_learning_rate", "optimizer.text_encoder_2_learning_rate", "optimizer.name"),
        _several_rates,
        "an optimiser that finds the rate itself finds one for all parts, and different ones are asked for",
        "Set the text encoders' rates to auto.",
    ),
    Clash(
        ("adapter.text_encoder_until", "objective.prior"),
        lambda config: config.adapter.text_encoder_until != "end" and config.objective.prior == "base",
        "the base's own answer needs the text encoders as they were, and captions are encoded once when they stop",
        "Set it to end, or objective.prior to pictures.",
    ),
    Clash(
        ("adapter.max_norm", "optimizer.name"),
        lambda config: bool(config.adapter.max_norm) and optimizer_row(config.optimizer.name).averages,
        "this optimiser keeps matrices of its own beside those that are trained, and no limit would hold for them",
        "Set it to 0, or take another optimiser.",
    ),
    Clash(
        ("training.ema", "optimizer.name"),
        lambda config: bool(config.training.ema) and optimizer_row(config.optimizer.name).averages,
        "this optimiser keeps an average of its own, and training.ema asks for another",
        "Set it to 0, or take another optimiser.",
    ),
    Clash(
        ("objective.noise_offset", "objective.pyramid_iterations"),
        lambda config: bool(config.objective.noise_offset and config.objective.pyramid_iterations),
        "offset noise and pyramid noise do the same, and together they do too much",
        "Set one of them to 0.",
    ),
    Clash(
        ("objective.min_timestep", "objective.max_timestep"),
        lambda config: config.objective.timestep_range(1000)[0] >= config.objective.timestep_range(1000)[1],
        "no timestep is left between the first and the last",
        "Make min_timestep smaller than max_timestep; below 1 they are shares, above it numbers up to 1000.",
    ),
    Clash(
        ("model.zero_terminal_snr", "model.prediction"),
        lambda config: config.model.zero_terminal_snr == "on" and config.model.prediction == "epsilon",
        "a UNet that predicts the noise cannot learn from pure noise: zero terminal SNR needs v-prediction",
        "Set it to off, or model.prediction to v_prediction.",
    ),
    Clash(
        ("engine.base", "engine.checkpointing"),
        lambda config: config.engine.base == "streamed" and config.engine.checkpointing not in ("auto", "full"),
        "streamed needs checkpointing=full or auto: a block's weights are gone once it is done",
        "Set engine.checkpointing=auto.",
    ),
    Clash(
        ("engine.compile", "engine.base", "engine.kernels"),
        lambda config: (
            config.engine.compile and (config.engine.kernels == "triton" or config.engine.base == "streamed")
        ),
        "torch's compiler cannot be had with kernels=triton, which fuse already, nor with base=streamed",
        "Set engine.compile=false.",
    ),
    Clash(
        ("engine.graph", "model.device"),
        lambda config: config.engine.graph == "on" and config.model.device == "cpu",
        "CUDA graphs are for CUDA devices, and this run is to be on the cpu",
        "Leave it at auto.",
    ),
    Clash(
        ("engine.kernels", "model.device"),
        lambda config: config.engine.kernels == "triton" and config.model.device == "cpu",
        "Triton kernels are for CUDA devices, and this run is to be on the cpu",
        "Leave it at auto.",
    ),
)


def idle(config: RunConfig) -> dict[str, OnlyWith]:
    """Settings that do not count in a config, each with the rule that says so."""
    return {rule.setting: rule for rule in reversed(ONLY_WITH) if not rule.met(config)}


def clashes(config: RunConfig) -> list[Clash]:
    """Contradictions in a config."""
    return [clash for clash in CLASHES if clash.found(config)]


def mistakes(config: RunConfig, without_effect: Mapping[str, OnlyWith]) -> list[str]:
    """Everything wrong with a config, a line each; `without_effect` is what was given and does not count."""
    lines = [f"{clash.settings[0]}: {clash.problem}. {clash.fix}" for clash in clashes(config)]
    for name, rule in without_effect.items():
        now = ", ".join(f"{need.setting}={shown(config.value(need.setting))}" for need in rule.needs)
        lines.append(f"{name}: has no effect with {now}; it counts {rule.words()}. {rule.advice()}")
    return lines
