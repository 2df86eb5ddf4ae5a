"""What a run will take, as it was measured before its first step: the event `preflight`. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from trainer.contract.card import CardProcess
from trainer.contract.ladder import RUNGS
from trainer.contract.length import Length
from trainer.contract.rates import Effective

GIB = 2**30


@dataclass(frozen=True)
class Preflight:
    """Times in seconds, memory in bytes; memory is 0 where the run is on a CPU.

    Attributes:
        rung: of the memory ladder.
        seconds_per_step: of an optimiser step.
        steps_left: optimiser steps still to be taken.
        samples_every: optimiser steps from one round of sample pictures to the next; None for no samples.
        samples_prompts: pictures of a round.
        samples_seconds: for all sample pictures to come.
        validation_seconds: for measuring held-out pictures, from now on.
        saves_seconds: for all checkpoints to come.
        seconds_left: all of that together.
        allocated, reserved: most memory that tensors took so far, and torch with what it holds in stock.
        free, total: of the card.
        processes: the others on the card.
        length: of the whole run; None in events of earlier versions.
        rate, rate_made: see `trainer.contract.rates.Effective`; in events of earlier versions it is made of nothing.
    """

    rung: str
    seconds_per_step: float
    steps_left: int
    samples_every: int | None
    samples_prompts: int
    samples_seconds: float
    saves_seconds: float
    seconds_left: float
    allocated: int = 0
    reserved: int = 0
    free: int = 0
    total: int = 0
    processes: tuple[CardProcess, ...] = ()
    length: Length | None = None
    rate: float = 0.0
    rate_made: str = ""
    validation_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As the event holds it; times to the millisecond."""
        told = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**told, "rate": self.rate}

    def words(self) -> str:
        """One line, such as "about 4 min · 12.9 steps/s · 6.2 of 24 GiB · nothing is computed again"."""
        parts = [about(self.seconds_left), pace(self.seconds_per_step)]
        if self.total:
            parts += [
                f"{self.reserved / GIB:.1f} of {self.total / GIB:.0f} GiB",
                RUNGS[self.rung].words if self.rung in RUNGS else self.rung,
            ]
        return " · ".join(parts)

    def lengths(self) -> str:
        """Such as "300 steps = 15 epochs = each picture seen 60 times · effective rate ..."; "" where unknown."""
        return f"{self.length.words()} · {Effective(self.rate, self.rate_made)}" if self.length else ""

    def samples(self) -> str:
        """When sample pictures are drawn, such as "2 pictures every 50 steps, about 12 s in all"."""
        if self.samples_every is None:
            return "no sample pictures"
        pictures = f"{self.samples_prompts} sample picture{'s' * (self.samples_prompts != 1)}"
        return f"{pictures} every {self.samples_every} steps, {about(self.samples_seconds)} in all"


def preflight_of(event: Mapping[str, Any]) -> Preflight:
    """Read an event back.

    Raises:
        KeyError, TypeError: it is none.
    """
    known = {field.name: event[field.name] for field in fields(Preflight) if field.name in event}
    length = Length(**known["length"]) if known.get("length") else None
    processes = tuple(CardProcess(**item) for item in event["processes"])
    return Preflight(**{**known, "processes": processes, "length": length})


def about(seconds: float) -> str:
    """A time span as one says it of what is still to come."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes:02} min" if hours else f"about {minutes} min"


def pace(seconds_per_step: float) -> str:
    """Steps a second, or seconds a step, whichever is above 1."""
    if seconds_per_step > 1:
        return f"{seconds_per_step:.1f} s a step"
    return f"{1 / max(seconds_per_step, 1e-6):.3g} steps/s"


def others(processes: Sequence[CardProcess]) -> str:
    """The processes by name and size, such as "chrome (0.8 GiB), python (5.1 GiB)"."""
    said = [
        f"{p.name} ({f'{p.bytes / GIB:.1f} GiB' if p.bytes is not None else f'process {p.pid}'})" for p in processes
    ]
    return ", ".join(said)
