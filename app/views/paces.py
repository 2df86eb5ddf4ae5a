"""How fast a base is trained: as it was measured on this machine, else as its preset tells of another one."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app import owners
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.preflight import Preflight, preflight_of
from trainer.contract.presets import Preset
from trainer.contract.rundir import RunDir, list_runs

LOOKED_AT = 12  # runs, the newest ones
MOST_START = 600.0  # seconds before a first step that are believed


class Pace(NamedTuple):
    """How fast it goes.

    Attributes:
        pictures: learned in a second, of `area`.
        area: of a picture, in pixels.
        more: what samples, saves and held-out pictures add, as a factor on the steps.
        start: seconds before the first step.
        machine: on which it was measured; "" for this one.
    """

    pictures: float
    area: float
    more: float
    start: float
    machine: str

    def seconds(self, steps: int, batch: int, area: float) -> float:
        """Of a whole run; `batch` pictures a step."""
        return self.start + steps * batch * (area / self.area) / self.pictures * self.more


def area_of(config: RunConfig, own: int) -> float:
    """Pixels of a picture of a run, about; `own` is the side that its base was made for."""
    sides = config.dataset.resolutions(own)
    return sum(side * side for side in sides) / len(sides)


def pace_of(home: Path, config: RunConfig, preset: Preset, own: int) -> Pace | None:
    """The pace of runs like this one; None where neither this machine nor the preset tells."""
    here = next(_measured(home, config, own), None)
    about = preset.about
    if here is None and about is not None:
        return Pace(about.rate, own * own, 1.0, about.start, about.machine)
    if here is None or here.start:
        return here
    return here._replace(start=about.start if about else 0.0)


def _measured(home: Path, config: RunConfig, own: int) -> Iterator[Pace]:
    for run in list_runs(home)[:LOOKED_AT]:
        measure = _first_measure(run) if owners.visible(run.path) else None
        if measure is None:
            continue
        before, found, start = measure
        alike = all(before.value(name) == config.value(name) for name in ("model.base", "adapter.text_encoder"))
        if alike and found.steps_left and found.seconds_per_step:
            batch = before.training.batch_size * before.training.accumulation
            more = max(1.0, found.seconds_left / (found.steps_left * found.seconds_per_step))
            yield Pace(batch / found.seconds_per_step, area_of(before, own), more, start, "")


class _Measure(NamedTuple):
    config: RunConfig
    found: Preflight
    start: float  # seconds before its first step, 0 where that cannot be told any more


_measures: dict[Path, _Measure] = {}  # a run is measured before its first step: what is read once stays


def _first_measure(run: RunDir) -> _Measure | None:
    if run.path not in _measures:
        event = next((event for event in run.events() if event["kind"] in ("preflight", "step")), {"kind": "none"})
        if event["kind"] != "preflight":
            return None
        try:
            found, config = preflight_of(event), run.config()
        except (UserError, KeyError, TypeError):
            return None  # of another version
        start = float(event["time"]) - run.status().pid_started  # of its last process, which may be a later one
        _measures[run.path] = _Measure(config, found, start if 0 < start < MOST_START else 0.0)
    return _measures[run.path]
