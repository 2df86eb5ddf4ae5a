"""What was changed after a run began: its length, its checkpoints, its samples. `amendments.jsonl` in the run folder.

A change is asked for with `requests/amend`, which the trainer takes between two steps or at its next start. It is
written down with the step it counts from, so that a resume from before that step does the same again.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from filelock import FileLock

from trainer.contract.checkpoints import last_saved
from trainer.contract.compose import LENGTHS, Layer, compose, section_fields
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import read_json, write_atomic
from trainer.contract.length import Length
from trainer.contract.preflight import preflight_of
from trainer.contract.rundir import ACTIVE, RunDir

NAME, REQUEST = "amendments.jsonl", "amend"
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
        rate: what the learning rate does where a length is among the changes, see `place`.
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
    return max((one.step for one in changes if says_length(one.changes)), default=-1)


def says_length(changes: Layer) -> bool:
    """Whether a length is among some changes."""
    return bool(set(LENGTHS) & set(changes.get("training", {})))


def steps_of(config: RunConfig, length: Length | None) -> int | None:
    """A config's length in optimiser steps, by what a run has measured of its pictures; None before it has."""
    wanted = config.training
    if wanted.steps:
        return wanted.steps
    if length is None:
        return None
    rows = ((wanted.epochs, length.epochs), (wanted.views, length.views))
    count, known = next((count, known) for count, known in rows if count)
    return max(1, math.ceil(round(count * length.steps / known, 6)))


def steps_done(run: RunDir) -> int:
    """Optimiser steps from which a run goes on: of its last save, or where it is just now."""
    status = run.status()
    return status.step if status.state in ACTIVE else last_saved(run.checkpoints)


def check_total(total: int | None, done: int) -> None:
    """Refuse a length, where it is known, that leaves nothing to do. Raises UserError with what is allowed."""
    if total is not None and total <= done:
        fix = f"Give more than {done} steps in all, or stop it where it is."
        raise UserError(f"it has done {done} steps already", "training.steps", fix)


def check_allowed(changes: Layer) -> None:
    """Refuse what would make it another run. Raises UserError with what can be changed."""
    names = [f"{section}.{key}" for section, values in changes.items() for key in values]
    if wrong := [name for name in names if name not in ALLOWED]:
        raise UserError(
            f"{', '.join(wrong)} cannot change once a run has begun",
            "--set",
            f"These can: {', '.join(ALLOWED)}. For others start a new run, with `--as-new` from what was learned.",
        )


def asking(run: RunDir) -> AbstractContextManager[Any]:
    """Within this, nobody else asks for a change or takes one."""
    return FileLock(run.path / ".amend.lock")


def ask(run: RunDir, changes: Layer, rate: Rate = "hold") -> Amendment:
    """Ask for a change; what was asked for before and not taken yet stays asked for.

    Args:
        run: its folder.
        changes: see `ALLOWED`.
        rate: what the learning rate does, where a length is among them.

    Raises:
        UserError: as for `amended`; or the run has done that many steps already.
    """
    with asking(run):
        before = pending(run) or Amendment("", {})
        merged = {section: dict(values) for section, values in before.changes.items()}
        if says_length(changes):
            merged["training"] = {k: v for k, v in merged.get("training", {}).items() if k not in LENGTHS}
        for section, values in changes.items():
            merged.setdefault(section, {}).update(values)
        wanted = Amendment(str(time.time_ns()), merged, rate if says_length(changes) else before.rate)
        config = amended(run.config(), [*read_amendments(run), wanted])
        if says_length(changes):
            check_total(steps_of(config, _measured(run)), steps_done(run))
        (run.path / "requests").mkdir(exist_ok=True)
        write_atomic(run.path / "requests" / REQUEST, json.dumps(asdict(wanted)))
    return wanted


def _measured(run: RunDir) -> Length | None:
    """A run's length in all three units, as it was last told."""
    found = [event for event in run.events() if event["kind"] == "preflight"]
    return preflight_of(found[-1]).length if found else None


def pending(run: RunDir) -> Amendment | None:
    """What is asked for and not written down yet. Raises UserError where it is damaged."""
    path = run.path / "requests" / REQUEST
    if not path.exists():
        return None
    wanted = Amendment(**read_json(path, "Remove that file, and ask for the change again."))
    return None if wanted.key in {one.key for one in read_amendments(run)} else wanted


def read_amendments(run: RunDir) -> tuple[Amendment, ...]:
    """Every change of a run, in order. Raises UserError where they are damaged."""
    path = run.path / NAME
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return tuple(Amendment(**json.loads(line)) for line in lines)
    except ValueError:
        fix = "Put back its last whole version, or take the broken line out and ask for that change again."
        raise UserError(f"{NAME} is damaged", str(path), fix) from None


def write_down(run: RunDir, change: Amendment) -> tuple[Amendment, ...]:
    """Add a change with its step and total, whole or not at all; return all. The request is taken after that.

    It is taken within `asking`, so that none is lost that comes meanwhile.
    """
    every = joined(read_amendments(run), change)
    write_atomic(run.path / NAME, "".join(json.dumps(asdict(one)) + "\n" for one in every))
    run.take_request(REQUEST)
    return every


def joined(changes: Sequence[Amendment], change: Amendment) -> tuple[Amendment, ...]:
    """Changes and one more, in the order of their steps.

    A run that has fallen back behind a change knows of it already: that one counts from where it stands, too.
    """
    return (*(replace(one, step=min(one.step, change.step)) for one in changes), change)


def place(first: int, changes: Sequence[Amendment], step: int) -> tuple[float, int]:
    """Where a step stands on the learning rate's curve: (step, total) of a run that was never changed.

    - `hold`: in the middle of a run the rest of the curve is stretched over the steps that are left, without a jump;
      after its end the rate stays as it was at the last step.
    - `rewarm`: the curve begins anew, warm-up included, over the steps that are left; also where the total stays.

    Args:
        first: total of the run as it was begun.
        changes: of the run, in order; their steps never fall, see `joined`.
        step: optimiser steps done.
    """
    begin, at, end, length = 0, 0.0, first, first

    def now(step: int) -> float:
        return min(at + (step - begin) * (length - at) / max(1, end - begin), length - 1.0)

    for change in changes:
        if change.step > step or (change.rate == "hold" and change.total == end):
            continue
        if change.rate == "rewarm":
            begin, at, length = change.step, 0.0, max(1, change.total - change.step)
        else:
            begin, at = change.step, now(change.step)
        end = change.total
    return now(step), length
