"""How fast and how lean is a whole training run? Every case is a real run of the product in a process of its own.

    python -m benchmarks.rates sd15:1 sd15:8 sdxl:1 sdxl:4 --work /tmp/bench

A case is MODEL:BATCH with MODEL sd15, sd21, sdxl, and more after colons: `te` trains the text encoders, `buckets` has
pictures of six shapes, SECTION.KEY=VALUE changes a setting. One JSON line each, and a table at the end. The first step
is counted from the start of the process.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import SIZES, make_base, make_pictures
from trainer.contract.compose import compose, parse_assignments
from trainer.contract.rundir import RunDir, create_run

WARM = 10  # steps before the clock starts: kernels are chosen and graphs recorded in them
SHAPES = [(1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16)]  # aspects of the six-bucket case


def layer(case: str, work: Path, steps: int) -> dict[str, Any]:
    """The settings of a case, its base and pictures written where they are missing."""
    name, batch, *more = case.split(":")
    size = SIZES[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = make_base(work / name, name, device)
    torch.cuda.empty_cache()
    shapes = SHAPES if "buckets" in more else SHAPES[:1]
    sides = [(round(size.side * (a / b) ** 0.5), round(size.side * (b / a) ** 0.5)) for a, b in shapes]
    count = 4 * int(batch) * len(shapes)
    pictures = make_pictures(work / f"pictures-{size.side}-{count}-{len(shapes)}", count, sides)
    settings: dict[str, Any] = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures)},
        "adapter": {"rank": 16, "text_encoder": "te" in more},
        "training": {"steps": steps + WARM, "batch_size": int(batch), "save_every": "never"},
        "sampling": {"every": "never"},
    }
    for item in more:
        if "=" in item:
            for section, values in parse_assignments([item]).items():
                settings.setdefault(section, {}).update(values)
    return settings


def measure(run: RunDir, batch: int, tflop: float) -> dict[str, Any]:
    """Train a run folder to its end in a fresh process; return what its events say."""
    began = time.time()
    subprocess.run([sys.executable, "-P", "-m", "trainer", "train", str(run.path)], check=True, stdout=sys.stderr)
    ended = time.time()
    events = list(run.events())
    times = {event["step"]: event["time"] for event in events if event["kind"] == "step"}
    memory = next((event for event in events if event["kind"] == "memory"), {"allocated": 0, "reserved": 0})
    rate = steady_rate(times)
    return {
        "it/s": round(rate, 2),
        "img/s": round(rate * batch, 2),
        "TFLOP/s": round(rate * batch * tflop),
        "GiB": round(memory["allocated"] / 2**30, 2),
        "reserved": round(memory["reserved"] / 2**30, 2),
        "first step s": round(times[1] - began, 1),
        "total s": round(ended - began, 1),
        "engine": run.engine(),
    }


def steady_rate(times: dict[int, float]) -> float:
    """Steps a second after the warm-up.

    Steps are reported in bundles, each as soon as the device has done the last of them: only that one's time is true.
    """
    last = max(times)
    ends = [step for step in times if WARM <= step < last and times[step + 1] - times[step] > 0.05]
    start = min(ends, default=WARM)
    return (last - start) / (times[last] - times[start])


def as_table(found: dict[str, dict[str, Any]]) -> str:
    """The cases as a Markdown table."""
    rows = ["| case | it/s | img/s | TFLOP/s | GiB | first step, s | whole run, s |", "|---|---|---|---|---|---|---|"]
    columns = ("it/s", "img/s", "TFLOP/s", "GiB", "first step s", "total s")
    for case, said in found.items():
        rows.append(f"| {case} | " + " | ".join(str(said.get(name, said.get("failed", ""))) for name in columns) + " |")
    return "\n".join(rows)


def main() -> None:
    """Measure the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    found = {}
    for case in options.cases:
        name, batch, *_ = case.split(":")
        config = compose([layer(case, options.work, options.steps)])
        run = create_run(options.work / "home", case.replace(":", "-"), config)
        try:
            found[case] = measure(run, int(batch), SIZES[name].tflop)
        except (subprocess.CalledProcessError, StopIteration) as error:  # one failing case must not hide the others
            found[case] = {"failed": f"{type(error).__name__}: {run.status().message}"}
        print(case, json.dumps(found[case]), flush=True)
    print(f"\n{card}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n\n{as_table(found)}")


if __name__ == "__main__":
    main()
