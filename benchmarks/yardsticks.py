"""What stands beside the rates: the card's matrix rate, a bare step in a CUDA graph, PEFT without one."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, search_path, watch

# What `--ceiling-script` prints: a line a case, which begins with RESULT.
RESULT = re.compile(r"RESULT (\w+) b(\d+) (lean|peft) (graph|eager) (\w+) .*? ([\d.]+) it/s .*?peak ([\d.]+) GiB")
OURS = {"ceiling": ("lean:nchw", "lean:nhwc"), "peft": ("peft:eager",), "matrix": ()}
THEIRS = {"ceiling": ("lean:graph:nocl", "lean:graph"), "peft": ("peft:eager",), "matrix": ()}
Reader = Callable[[str], dict[str, Any] | None]
MODELS_OF_SCRIPT = ("sd15", "sdxl")


def matrix_rate(work: Path, limit: float) -> dict[str, Any]:
    """The card's rate, as `benchmarks.ceiling` prints it."""
    found = run(["-m", "benchmarks.ceiling", "matrix"], read_ours, work / "matrix.log", limit)
    return next(found, {"yardstick": "matrix", "failed": "no answer"})


def steps(plain: str, wanted: Iterable[str], script: Path | None, work: Path, limit: float) -> Iterator[dict[str, Any]]:
    """Measure the bare steps of a model and batch, a dictionary each as it comes.

    Args:
        plain: MODEL:BATCH.
        wanted: of `ceiling` and `peft`.
        script: measures them in the place of `benchmarks.ceiling`, where it knows the model.
        work: gets the log.
        limit: seconds for all of them.
    """
    other = script is not None and plain.split(":")[0] in MODELS_OF_SCRIPT
    table = THEIRS if other else OURS
    specs = [f"{plain}:{spec}" for name in wanted for spec in table[name]]
    if specs:
        program = [str(script)] if other else ["-m", "benchmarks.ceiling"]
        log = work / f"ceiling-{plain.replace(':', '-')}.log"
        yield from run([*program, *specs], read_theirs if other else read_ours, log, limit)


def run(arguments: list[str], read: Reader, log: Path, limit: float) -> Iterator[dict[str, Any]]:
    """Start a yardstick and read its lines."""
    said: list[bytes] = []
    env = {"PYTHONPATH": search_path(ROOT)}
    watch([sys.executable, *arguments], lambda _, piece: said.append(piece), log, limit, env)
    yield from filter(None, map(read, b"".join(said).decode("utf-8", "replace").splitlines()))


def read_ours(line: str) -> dict[str, Any] | None:
    """A line of `benchmarks.ceiling`."""
    return json.loads(line) if line.startswith('{"yardstick"') else None


def read_theirs(line: str) -> dict[str, Any] | None:
    """A line of the other script, in our words."""
    if not (found := RESULT.match(line)):
        return {"yardstick": "script", "failed": line[:200]} if "FAILED" in line else None
    model, batch, op, mode, layout, rate, peak = found.groups()
    kind = layout.lower() if mode == "graph" else mode
    return {"yardstick": f"{model}:{batch}:{op}:{kind}", "it/s": float(rate), "GiB": float(peak), "script": True}
