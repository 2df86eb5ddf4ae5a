"""What is known of a case after it ran."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table; None where a figure was not or cannot be taken.

    Attributes:
        case: its name.
        plain: model and batch, which yardsticks and peers share.
        batch: pictures in a step.
        ours: whether the product was measured, not another trainer.
        code: exit code.
        rate: steps a second after the warm-up.
        spread: how far the two halves of the window are from each other, as a share of the rate.
        window: steps that the rate was taken over.
        allocated, reserved: peak memory of torch, in GiB.
        first_step: seconds from the start of the process to the end of the first step.
        whole: seconds from the start of the process to its end.
        rung: what the engine chose to fit the card, and whether it had to step down.
        phases: seconds of each phase before the first step ended, in order.
        engine: the engine's choices.
        note: what went wrong.
    """

    case: str
    plain: str
    batch: int
    ours: bool
    code: int
    rate: float | None = None
    spread: float | None = None
    window: int = 0
    allocated: float | None = None
    reserved: float | None = None
    first_step: float | None = None
    whole: float | None = None
    rung: str = ""
    phases: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def speed(self) -> float | None:
        """Pictures a second."""
        return None if self.rate is None else self.rate * self.batch

    def said(self) -> dict[str, Any]:
        """As JSON, without what is not known."""
        fields = {**asdict(self), "img/s": self.speed}
        return {name: rounded(value) for name, value in fields.items() if value not in (None, "", {})}


def rounded(value: Any) -> Any:
    """A float with the digits that mean something."""
    return round(value, 3) if isinstance(value, float) else value
