"""Measures cases one after the other and tells of each as soon as it is done."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers, product, yardsticks
from benchmarks.cases import Case
from benchmarks.processes import ROOT, search_path, tail, watch
from benchmarks.report import Report
from benchmarks.row import Row

MAKING = 300.0  # seconds that writing a base may take
YARDSTICKS = 240.0  # and the yardsticks of one model and batch


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        work: folder for bases, pictures and runs; what is there is used again.
        yardsticks: which ones.
        case_seconds: longest that one case may take.
        seconds: after so many no other case is begun.
        script: prints bare steps in the place of `benchmarks.ceiling`.
        places: where the peers are.
    """

    work: Path
    yardsticks: Sequence[str]
    case_seconds: float
    seconds: float
    script: Path | None
    places: peers.Checkouts


def measure(cases: Sequence[Case], options: Options, report: Report, changed: Callable[[], None]) -> None:
    """Fill the report, case by case; `changed` is called after each."""
    end = time.monotonic() + options.seconds
    if on_gpu():
        read_packages(options.work)
    for case in cases:
        left = end - time.monotonic()
        if left <= 0:
            row = Row(case.name, case.plain, case.batch, ours=True, code=124, note="no time was left")
        else:
            row = one(case, options, min(left, options.case_seconds))
        report.rows.append(row)
        tell(row.said())
        if left > 0 and row.code == 0:
            beside(case, options, report, end)
        changed()


def one(case: Case, options: Options, limit: float) -> Row:
    """Measure a case, with its base written first where it is missing."""
    if problem := make_base(case, options.work):
        return Row(case.name, case.plain, case.batch, ours=True, code=1, note=problem)
    if case.runner == "atelier-demo":
        return product.demo(case, options.work, limit)
    if case.runner == "train":
        return product.train(case, options.work, limit)
    return peers.train(case, options.work, limit, options.places)


def beside(case: Case, options: Options, report: Report, end: float) -> None:
    """Measure the yardsticks of a case that were not measured in this call yet; none without a GPU."""
    limit = min(YARDSTICKS, end - time.monotonic())
    if limit < 0 or not on_gpu() or case.model == "demo":
        return
    found: list[dict[str, Any]] = []
    if "matrix" in options.yardsticks and "matrix" not in report.yardsticks:
        found.append(yardsticks.matrix_rate(options.work, limit))
    if not any(name.startswith(f"{case.plain}:") for name in report.yardsticks):
        found += yardsticks.steps(case.plain, options.yardsticks, options.script, options.work, limit)
    for said in found:
        report.yardsticks[said["yardstick"]] = said
        tell(said)


def on_gpu() -> bool:
    """Whether there is a card, asked without touching it."""
    return Path("/proc/driver/nvidia").exists()


def read_packages(work: Path) -> None:
    """Import what the trainer imports once, so that the disk is as warm for the first case as for the others."""
    began = time.monotonic()
    command, env = [sys.executable, "-c", "import trainer.assemble"], {"PYTHONPATH": search_path(ROOT)}
    watch(command, lambda *_: None, work / "imports.log", MAKING, env)
    tell({"first import of the packages, s": round(time.monotonic() - began, 1)})


def make_base(case: Case, work: Path) -> str:
    """Write the random base of a case in a process of its own, which leaves nothing on the GPU; return what failed."""
    folder = work / case.model
    if case.model == "demo" or (folder / "model_index.json").exists():
        return ""
    log, env = work / f"{case.model}.log", {"PYTHONPATH": search_path(ROOT)}
    command = [sys.executable, "-m", "benchmarks.models", case.model, str(folder)]
    code, began, ended = watch(command, lambda *_: None, log, MAKING, env)
    tell({"base": case.model, "seconds": round(ended - began, 1), "code": code})
    return tail(log) if code else ""


def tell(said: dict[str, Any]) -> None:
    """One JSON line, at once."""
    print(json.dumps(said), flush=True)
