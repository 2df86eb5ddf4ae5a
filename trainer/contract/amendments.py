"""What was changed after a run began: its length, its checkpoints, its samples. `amendments.jsonl` in the run folder.

A change is asked for with `requests/amend`, which the trainer takes between two steps or at its next start. It is
written down with the step it counts from, so that a resume from before that step does the same again.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.contract.compose import LENGTHS, Layer, compose, section_fields
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.rundir import RunDir

NAME, REQUEST = "amendments.jsonl", "amend"
LATER = ("sampling.prompts", "sampling.negative")  # read when a run is started: its text encoders are gone after that
ALLOWED = (
    *(f"training.{name}" for name in (*LENGTHS, "save_every")),
    *(f"sampling.{name}" for name in section_fields("sampling")),
)
Rate = Literal["hold", "rewarm"]


@dataclass(frozen=True)
class Amendment:
    """One change.

    Attributes:
        key: tells it from others.
        changes: section -> {key: value}.
        rate: what the learning rate does where the length changes, see `place`.
        step: optimiser steps that were done when it came; -1 while it is only asked for.
        total: optimiser steps of the whole run from then on.
    """

    key: str
    changes: Mapping[str, Mapping[str, Any]]
    rate: Rate = "hold"
    step: int = -1
    total: int = 0


def amended(config: RunConfig, changes: Sequence[Amendment]) -> RunConfig:
    """A config with changes made to it, in their order.

    Raises:
        UserError: a setting that cannot change any more, or a value that is not allowed.
    """
    for change in changes:
        check_allowed(change.changes)
        config = compose([config.model_dump(exclude_none=True), change.changes], "keep")
    return config


def config_now(run: RunDir) -> RunConfig:
    """A run's config with every change since it began, and what is asked for. Raises UserError as `amended`."""
    return amended(run.config(), [*read_amendments(run), *filter(None, [pending(run)])])


def last_length(changes: Sequence[Amendment]) -> int:
    """The step at which somebody last said how long a run is to be; -1 where nobody did since it began."""
    said = (one.step for one in changes if set(LENGTHS) & set(one.changes.get("training", {})))
    return max(said, default=-1)


def check_allowed(changes: Layer) -> None:
    """Refuse what would make it another run. Raises UserError with what can be changed."""
    names = [f"{section}.{key}" for section, values in changes.items() for key in values]
    if wrong := [name for name in names if name not in ALLOWED]:
        raise UserError(
            f"{', '.join(wrong)} cannot change once a run has begun",
            "--set",
            f"These can: {', '.join(ALLOWED)}. For others start a new run, with `--as-new` from what was learned.",
        )


def ask(run: RunDir, changes: Layer, rate: Rate = "hold") -> Amendment:
    """Ask for a change; what was asked for before and not taken yet stays asked for.

    Raises:
        UserError: as for `amended`.
    """
    before = pending(run)
    merged = {section: dict(values) for section, values in (before.changes if before else {}).items()}
    for section, values in changes.items():
        if section == "training" and set(LENGTHS) & set(values):
            merged["training"] = {k: v for k, v in merged.get("training", {}).items() if k not in LENGTHS}
        merged.setdefault(section, {}).update(values)
    wanted = Amendment(str(time.time_ns()), merged, rate)
    amended(run.config(), [*read_amendments(run), wanted])
    (run.path / "requests").mkdir(exist_ok=True)
    write_atomic(run.path / "requests" / REQUEST, json.dumps(asdict(wanted)))
    return wanted


def pending(run: RunDir) -> Amendment | None:
    """What is asked for and not written down yet."""
    path = run.path / "requests" / REQUEST
    if not path.exists():
        return None
    wanted = Amendment(**json.loads(path.read_text("utf-8")))
    return None if wanted.key in {one.key for one in read_amendments(run)} else wanted


def read_amendments(run: RunDir) -> tuple[Amendment, ...]:
    """Every change of a run, in order."""
    path = run.path / NAME
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return tuple(Amendment(**json.loads(line)) for line in lines)


def write_down(run: RunDir, change: Amendment) -> tuple[Amendment, ...]:
    """Add a change with its step and total, whole or not at all; return all. The request is taken after that."""
    every = (*read_amendments(run), change)
    write_atomic(run.path / NAME, "".join(json.dumps(asdict(one)) + "\n" for one in every))
    run.take_request(REQUEST)
    return every


def place(first: int, changes: Sequence[Amendment], step: int) -> tuple[float, int]:
    """Where a step stands on the learning rate's curve: (step, total) of a run that was never changed.

    - `hold`: in the middle of a run the rest of the curve is stretched over the steps that are left, without a jump;
      after its end the rate stays as it was at the last step.
    - `rewarm`: the curve begins anew, warm-up included, over the steps that are left.

    Args:
        first: total of the run as it was begun.
        changes: of the run, in order.
        step: optimiser steps done.
    """
    begin, at, end, length = 0, 0.0, first, first

    def now(step: int) -> float:
        return min(at + (step - begin) * (length - at) / max(1, end - begin), length - 1.0)

    for change in changes:
        if change.step > step or change.total == end:
            continue
        if change.rate == "rewarm":
            begin, at, length = change.step, 0.0, max(1, change.total - change.step)
        else:
            begin, at = change.step, now(change.step)
        end = change.total
    return now(step), length
