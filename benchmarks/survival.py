"""Does a run that is killed end with the file it would have had? `kill -9` at random moments, resumed until it is done.

    python -m benchmarks.survival --runs 50 --work /tmp/survival
    python -m benchmarks.survival --runs 300 --seed 1

Every run trains the embedded base on its style set in a process of its own. The moments are drawn from four kinds:
while a checkpoint is written, between two sample pictures, within an accumulated step, and any time from the start of
the process on. Most runs are killed once, every fifth twice, every tenth five times. A run passes if its adapter files,
its last checkpoint and the losses of its steps are those of the run that nobody touched, bit for bit.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.checkpoints import PREFIX, TENSORS, list_checkpoints
from trainer.contract.compose import compose
from trainer.contract.config import interval
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir, State, create_run, steps

ROOT = Path(__file__).parents[1]
POLL = 0.001  # seconds
LIMIT = 600.0  # seconds of one process
STEPS, SAVES, ROUNDS = 16, 3, 4  # of a run: steps, steps between checkpoints, rounds of samples

Make = Callable[[Path], RunDir]  # a home -> a fresh run, always the same


@dataclass(frozen=True)
class Ending:
    """What a run left.

    Attributes:
        adapter, state: SHA-256 of its file and of its last checkpoint's tensors.
        saves: SHA-256 of the adapter file of each save, by its step.
        losses: of every step.
    """

    adapter: str
    state: str
    saves: dict[int, str]
    losses: tuple[float, ...]


def demo_run(home: Path, device: str = "auto") -> RunDir:
    """The run that is killed: small, but with everything in it that draws or remembers something."""
    layer = {
        "model": {"base": "demo", "device": device},
        "dataset": {"path": str(demo_folder() / "style"), "flip": True, "caption_dropout": 0.2, "crop": "random"},
        "adapter": {"rank": 8, "dropout": 0.1},
        "objective": {"noise_offset": 0.05},
        "training": {
            "steps": STEPS, "batch_size": 1, "accumulation": 4, "save_every": str(SAVES), "threads": 1,
        },
        "sampling": {"every": f"{100 / ROUNDS}%", "steps": 3, "prompts": ["a rocket", "a cat face"]},
    }  # fmt: skip
    if device == "cuda":
        layer["engine"] = {"graph": "on", "deterministic": True}
    return create_run(home, "run", compose([layer]))


def start(run: RunDir) -> subprocess.Popen[bytes]:
    """Begin or go on with a run; what it says goes into its log."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "trainer", "train", str(run.path)],
            stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip


def ended(run: RunDir) -> Ending:
    """Train a run to its end and look at what it leaves.

    Raises:
        RuntimeError: it did not get there.
    """
    code = start(run).wait(LIMIT)
    if code != 0:
        raise RuntimeError(f"{run.path} ended with {code}: {run.log.read_text('utf-8', 'replace')[-2000:]}")
    losses = tuple(event["loss"] for event in steps(run).values())
    saves = {step: _sum(path) for step, path in run.step_files().items()}
    return Ending(_sum(run.adapter_file), _sum(list_checkpoints(run.checkpoints)[-1] / TENSORS), saves, losses)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saving(run: RunDir, pid: int, moments: random.Random) -> Callable[[], bool]:
    """Some milliseconds after a checkpoint has begun to be written, not always the first."""
    passed, wanted = [0.0], moments.randrange(1, 4)
    seen: set[str] = set()

    def now() -> bool:
        seen.update(path.name for path in run.checkpoints.glob(f".{PREFIX}*"))
        if len(seen) >= wanted and not passed[0]:
            passed[0] = time.monotonic() + moments.random() * 0.02
        return 0 < passed[0] <= time.monotonic()

    return now


def sampling(run: RunDir, pid: int, moments: random.Random) -> Callable[[], bool]:
    """After the first prompt of a round is drawn, before the second is, however busy the machine is.

    Where the trainer is to write the second one's picture there is a pipe that nobody reads: it waits there.
    """
    born, options, step = time.time_ns(), run.config().sampling, moments.choice(rounds_to_come(run))
    first, second = sample(run, step, 0, options.strengths[-1]), sample(run, step, 1, options.strengths[0])
    os.mkfifo(second.with_name(f".{second.name}.{pid}.{pid}.tmp"))  # its main thread has the number of the process
    passed, wait = [0.0], moments.random() * 0.2

    def now() -> bool:
        if not passed[0] and first.exists() and first.stat().st_mtime_ns > born:
            passed[0] = time.monotonic()
        return 0 < passed[0] <= time.monotonic() - wait

    return now


def rounds_to_come(run: RunDir) -> list[int]:
    """Steps after which a run that is started now will draw; the last one is always among them."""
    config, done = run.config(), [int(path.name.removeprefix(PREFIX)) for path in list_checkpoints(run.checkpoints)]
    total = config.training.steps or 0
    every = interval(config.sampling.every, total, 1) or total
    return [step for step in (*range(0, total, every), total) if not done or step > done[-1] or step == total]


def sample(run: RunDir, step: int, prompt: int, strength: float) -> Path:
    """Where a run keeps a picture of a round."""
    return run.samples / (f"s{step:06d}-{prompt}" + (".png" if strength == 1 else f"-{strength:g}.png"))


def stepping(run: RunDir, pid: int, moments: random.Random) -> Callable[[], bool]:
    """Somewhere in the steps: nearly all of a step is one of its forward and backward passes."""
    born, began, wait = time.time(), [0.0], moments.random() * 0.7

    def now() -> bool:
        status = run.status()
        if not began[0] and status.state == State.TRAINING and status.heartbeat > born:
            began[0] = time.monotonic()
        return 0 < began[0] <= time.monotonic() - wait

    return now


def anytime(run: RunDir, pid: int, moments: random.Random) -> Callable[[], bool]:
    """At any time from the start of the process on."""
    at = time.monotonic() + moments.random() * 15
    return lambda: time.monotonic() >= at


MOMENTS = {"saving": saving, "sampling": sampling, "accumulation": stepping, "anytime": anytime}


def killed(run: RunDir, moment: str, moments: random.Random) -> bool:
    """Start a run and kill it at a moment; return whether the kill hit a living process."""
    process = start(run)
    now = MOMENTS[moment](run, process.pid, moments)
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and not now() and time.monotonic() < deadline:
        time.sleep(POLL)
    process.send_signal(signal.SIGKILL)
    hit = process.wait() == -signal.SIGKILL
    for pipe in filter(Path.is_fifo, run.samples.glob(".*.tmp")):
        pipe.unlink()
    return hit


def kills_of(number: int) -> int:
    """How often the run of a number is killed: once, every fifth twice, every tenth five times."""
    return 5 if number % 10 == 9 else 2 if number % 5 == 4 else 1


def survive(make: Make, whole: Ending, home: Path, kinds: list[str], moments: random.Random) -> tuple[bool, Counter]:
    """Kill one run at each of some moments in turn, then let it end; (whether it ended alike, kills that hit)."""
    run, hit = make(home), Counter()
    for kind in kinds:
        hit[kind] += killed(run, kind, moments)
    return ended(run) == whole, hit


def differ(run: RunDir) -> bool:
    """Whether no checkpoint is like the one before: something was trained between them."""
    sums = [_sum(path / TENSORS) for path in list_checkpoints(run.checkpoints)]
    return len(set(sums)) == len(sums) > 1


def campaign(make: Make, work: Path, runs: int, seed: int) -> Iterator[dict]:
    """Run them one after the other; a dictionary of what was seen after each."""
    reference = make(work / "whole")
    whole = ended(reference)
    passed, hit = 0, Counter()
    for number in range(runs):
        moments = random.Random(f"{seed}/{number}")
        kinds = [list(MOMENTS)[(number + turn) % len(MOMENTS)] for turn in range(kills_of(number))]
        home = work / f"run-{number}"
        shutil.rmtree(home, ignore_errors=True)
        shelf = work / "whole" / ".cache"
        if shelf.is_dir():
            shutil.copytree(shelf, home / ".cache")  # latents are made once
        alike, hits = survive(make, whole, home, kinds, moments)
        passed, hit = passed + alike, hit + hits
        yield {"run": number, "alike": alike, "killed": kinds, "passed": passed, "of": number + 1, "hits": dict(hit),
               "checkpoints_differ": differ(reference)}  # fmt: skip
        if alike:
            shutil.rmtree(home)


def main() -> int:
    """Print a line for every run, then the sum; 0 where all passed."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.survival", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for the runs; those that fail stay there")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cuda: graphs on, deterministic mode")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="survival-"))
    last: dict = {}
    for last in campaign(lambda home: demo_run(home, options.device), work, options.runs, options.seed):
        print(json.dumps(last), flush=True)
    total = sum(last.get("hits", {}).values())
    print(f"{last['passed']} of {last['of']} runs ended bit for bit alike after {total} kills: {last['hits']}")
    return 0 if last["passed"] == last["of"] and last["checkpoints_differ"] else 1


if __name__ == "__main__":
    sys.exit(main())
