"""A whole run of the product, in a process of its own, and what its files and its words say of it."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.cases import MODELS, SHAPES, Case
from benchmarks.processes import ROOT, search_path, tail, watch
from benchmarks.row import Row
from benchmarks.sets import make_pictures
from trainer.contract.compose import compose, parse_assignments
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.contract.presets import load_preset
from trainer.contract.rundir import RunDir, create_run
from trainer.formats.bases import preset_shelf

GAP = 0.1  # seconds: steps that are told of together stand closer than this in the events
GIB = 2**30
SAYING = re.compile(r"\d\d:\d\d:\d\d (?!step \d)(.+)")


def prepare(case: Case, work: Path) -> RunDir:
    """Make the run folder of a case: the shipped preset with the case's settings over it.

    Raises:
        UserError: the product knows no such setting.
    """
    base = "demo" if case.model == "demo" else str(work / case.model)
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": base, **({"device": "cpu"} if case.model == "demo" else {})},
        "dataset": {"path": str(pictures(case, work))},
        "adapter": {"rank": 16, "text_encoder": False},
        "training": {"steps": case.length, "batch_size": case.batch},
    }
    if not case.samples:
        settings["training"]["save_every"] = "never"
        settings["sampling"] = {"every": "never"}
    assigned = parse_assignments(case.settings)
    config = compose([*load_preset("style", preset_shelf(base)).layers(), settings, assigned])
    return create_run(work / "home", re.sub(r"[:=.]", "-", case.name), config)


def pictures(case: Case, work: Path) -> Path:
    """The set of a case, written where it is missing."""
    if case.model == "demo":
        return demo_folder() / "style"
    side, shapes = MODELS[case.model].side, SHAPES[: case.shapes]
    sides = [(round(side * (a / b) ** 0.5), round(side * (b / a) ** 0.5)) for a, b in shapes]
    return make_pictures(work / f"pictures-{side}-{case.set_size}-{case.shapes}", case.set_size, sides)


@dataclass
class Listener:
    """Notes when the trainer began each phase, from the lines that it prints.

    Attributes:
        phases: (name, time in seconds since 1970).
    """

    phases: list[tuple[str, float]] = field(default_factory=list)
    _torn: str = ""

    def __call__(self, now: float, piece: bytes) -> None:
        """Take what was printed."""
        *lines, self._torn = (self._torn + piece.decode("utf-8", "replace")).split("\n")
        self.phases += [(found[1], now) for line in lines if (found := SAYING.fullmatch(line.strip()))]


def train(case: Case, work: Path, limit: float) -> Row:
    """Measure a case; a run that fails is a row too."""
    try:
        run = prepare(case, work)
    except UserError as error:
        return Row(case.name, case.plain, case.batch, ours=True, code=2, note=str(error).replace("\n", " ")[:300])
    listener = Listener()
    command = [sys.executable, "-P", "-m", "trainer", "train", str(run.path)]
    code, began, ended = watch(command, listener, run.log, limit, {"PYTHONPATH": search_path(ROOT)})
    events = list(run.events())
    times = {event["step"]: event["time"] for event in events if event["kind"] == "step"}
    memory = next((event for event in events if event["kind"] == "memory"), {})
    return Row(
        case=case.name,
        plain=case.plain,
        batch=case.batch,
        ours=True,
        code=code,
        **pace(times, case.warm),
        allocated=memory.get("allocated", 0) / GIB or None,
        reserved=memory.get("reserved", 0) / GIB or None,
        first_step=times[1] - began if 1 in times else None,
        whole=ended - began,
        rung=rung(run.engine(), events),
        phases=durations(began, listener.phases, events),
        engine=run.engine(),
        note="" if code == 0 else run.status().message or tail(run.log),
    )


def pace(times: Mapping[int, float], warm: int) -> dict[str, Any]:
    """`rate`, `spread` and `window` of a row from the times of its steps; nothing where too few were taken."""
    ends = bundle_ends(times, warm)
    if len(ends) < 2:
        return {}
    halves = [steady_rate(times, part) for part in (ends[: len(ends) // 2 + 1], ends[len(ends) // 2 :]) if part[1:]]
    rate = steady_rate(times, ends)
    return {"rate": rate, "spread": (max(halves) - min(halves)) / rate, "window": ends[-1] - ends[0]}


def steady_rate(times: Mapping[int, float], ends: Sequence[int]) -> float:
    """Steps a second from the first to the last of some steps."""
    return (ends[-1] - ends[0]) / (times[ends[-1]] - times[ends[0]])


def bundle_ends(times: Mapping[int, float], warm: int) -> list[int]:
    """The steps after the warm-up whose time is true.

    Steps are told of in bundles, each once the device has done the last of it: only that one's time is the time at
    which it ended. The host may look a step or two late, equally so at every bundle; but at the end of the run it waits
    for the device, so that the last step is taken only where there is nothing else.
    """
    steps = sorted(times)
    ends = [one for one, after in pairwise(steps) if one >= warm and times[after] - times[one] > GAP]
    return ends if len(ends) > 1 else [*ends, *(step for step in steps[-1:] if step > warm)]


def durations(began: float, phases: Iterable[tuple[str, float]], events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of every phase until the first step was done, in order; a phase that comes again adds up."""
    start = next((event["time"] for event in events if event["kind"] == "start"), None)
    first = next((event["time"] for event in events if event["kind"] == "step"), None)
    if start is None or first is None:
        return {}
    drawn = max((event["time"] for event in events if event["kind"] == "sample" and event["time"] <= first), default=0)
    marks = [("interpreter", began), *((name, now) for name, now in phases if now < start)]
    marks += [("first samples", start), ("first step", drawn)] if drawn else [("first step", start)]
    found: dict[str, float] = {}
    for (name, now), (_, then) in zip(marks, [*marks[1:], ("", first)], strict=True):
        found[name] = round(found.get(name, 0.0) + then - now, 2)
    return found


def rung(engine: Mapping[str, Any], events: Iterable[dict[str, Any]]) -> str:
    """What the engine computes again, how it holds the base, and how often it stepped down."""
    words = [str(engine[key]) for key in ("base", "rung") if engine.get(key) not in (None, "plain")]
    downs = sum("out of GPU memory" in str(event.get("text")) for event in events if event["kind"] == "notice")
    return " ".join(words) + (f" ({downs} down)" if downs else "")


def demo(case: Case, work: Path, limit: float) -> Row:
    """`atelier demo` on the CPU, from the start of the process to the sweep picture."""
    said: list[bytes] = []
    command = [sys.executable, "-m", "app", "demo", "--json", "--data-dir", str(work / "demo-home")]
    env = {"PYTHONPATH": search_path(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    log = work / "demo.log"
    code, began, ended = watch(command, lambda _, piece: said.append(piece), log, limit, env)
    row = {"case": case.name, "plain": case.plain, "batch": case.batch, "ours": True, "whole": ended - began}
    if code:
        return Row(**row, code=code, note=tail(log))
    lines = b"".join(said).decode("utf-8", "replace").splitlines()
    answer = json.loads(next(line for line in reversed(lines) if line.startswith('{"ok"')))
    run = RunDir(Path(answer["sweep"]).parent)
    times = {event["step"]: event["time"] for event in run.events() if event["kind"] == "step"}
    return Row(**row, code=code, **pace(times, case.warm), first_step=times[1] - began, engine=run.engine())
