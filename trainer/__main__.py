"""The trainer as a command: `python -P -m trainer train RUN_DIR`, and `plan`, `generate`, `grid`, `caption`, `fetch`,
`serve`; `analyze`, `resize`, `merge` and `convert` for adapter files.

All but `train` and `serve` print one JSON object as the last line of standard output: the answer, or, where what was
asked cannot be done, {"problem": ..., "where": ..., "fix": ...}.

Exit codes: 0 done, 1 a fault of ours, 2 a fault in what was asked, 130 stopped by the user and saved.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from filelock import FileLock, Timeout

from trainer.console import Reporter, reporter
from trainer.contract.card import card_lock, cards
from trainer.contract.checkpoints import last_saved
from trainer.contract.errors import EXIT_ASKED, EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, UserError
from trainer.contract.files import clear_unfinished, patient
from trainer.contract.pause import Pause
from trainer.contract.preflight import preflight_of
from trainer.contract.rundir import FOREGROUND, RunDir, State
from trainer.formats.bases import find_base
from trainer.stall import expect_nothing
from trainer.startup import growing_segments, quick_imports, read_ahead, wake_device

# Read when torch is loaded: how often a thread looks again before it sleeps. Seconds for a step of the practice base on
# two cores, alone and with another training beside it: never asleep 0.17 and over 3, always asleep 0.35 and 0.33, a
# thousand looks 0.20 and 0.41, three thousand 0.17 and 0.65.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")  # torch would look through all packages for other devices
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # a card has the number that nvidia-smi gives it
if growing_segments():
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

Drive = Callable[[Any], int]  # an assembled run -> exit code
WAITING = "waiting for another run to finish"
LOOK_SECONDS = 0.5  # while waiting, whether a stop is asked for
LET_GO_SECONDS = 15.0  # a trainer whose terminal was just killed saves and stops within this


def train(folder: str) -> int:
    """Train the run in a folder, from its last checkpoint on."""
    run = RunDir(Path(folder).resolve())
    run.config()  # before anything is written: this may be no run folder
    with _alone(run), reporter() as report:
        run.forget_request("stop", psutil.Process().create_time())  # one that an earlier process did not live to see
        clear_unfinished(run.path)
        _when_told_to_end(signal.default_int_handler)
        try:
            return _train(run, report)
        except UserError as error:
            run.write_status(
                State.FAILED, message=f"{error.where}: {error.problem}" if error.where else error.problem, fix=error.fix
            )
            raise
        except KeyboardInterrupt:
            saved = last_saved(run.checkpoints)
            when = f"it went on from step {saved}" if saved else "the first step"
            run.write_status(State.STOPPED, step=saved, message=f"Stopped before {when}.")
            return EXIT_STOPPED
        except Exception as error:  # the process's edge: whatever it is, the run folder must tell of it
            run.write_status(
                State.FAILED,
                message=f"{type(error).__name__}: {error}",
                fix="This is a fault of ours: log.txt has the details.",
            )
            raise
        finally:
            run.take_request("stop")  # not before: who looks meanwhile sees that it is stopping
            expect_nothing()


def _train(run: RunDir, report: Reporter) -> int:
    stop = threading.Event()

    def drive(assembled: Any) -> int:
        from trainer.loop import train as loop  # noqa: PLC0415

        assembled.chores.stop = stop
        _when_told_to_end(lambda *_: stop.set())
        return EXIT_DONE if loop(assembled) else EXIT_STOPPED

    with patient(Pause(run, report.said, stop)):
        return _on_device(run, report, drive)


def _when_told_to_end(do: Callable[[int, FrameType | None], Any]) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), do)


def plan(folder: str) -> int:
    """Do all that comes before the first step of a run, and print what the run will take."""
    run = RunDir(Path(folder).resolve())
    run.config()

    def drive(assembled: Any) -> int:
        assembled.chores.samples.most = 1
        assembled.restore()
        return EXIT_DONE

    with _alone(run), reporter() as report:
        _on_device(run, report, drive, patience=0)
    events = list(run.events())
    notices = [event["text"] for event in events if event["kind"] == "notice"]
    found = [event for event in events if event["kind"] == "preflight"]
    if not found:
        raise UserError("this run has no steps left", run.name, f"Start it once more for its file: {run.name}")
    sys.stdout.write(json.dumps({**preflight_of(found[-1]).as_dict(), "notices": notices}) + "\n")
    return EXIT_DONE


def _on_device(run: RunDir, report: Reporter, drive: Drive, patience: float = -1) -> int:
    """Assemble a run and drive it, once more on a lower rung wherever it does not fit the GPU's memory."""
    report.told(WAITING, 0, 1)
    with _device(run, patience):
        while (code := _attempt(run, report, drive)) is None:
            # Here and not where it happened: nothing holds on any more to what that attempt had on the GPU.
            from trainer.memory import step_down  # noqa: PLC0415

            step_down(run)
    return code


def _attempt(run: RunDir, report: Reporter, drive: Drive) -> int | None:
    """Go on from the last checkpoint; None where the UNet or a step did not fit the GPU's memory."""
    report.told("starting", 0, 1)
    wanted = run.config().model
    read_ahead(find_base(wanted.base))
    with quick_imports():
        import torch  # noqa: F401, PLC0415 - it takes seconds: the bar is shown first; and what is woken needs all of it

        wake_device(wanted.device)
        from trainer.assemble import assemble  # noqa: PLC0415
        from trainer.device import ran_out  # noqa: PLC0415

    try:
        return drive(assemble(run, report))
    except RuntimeError as error:
        if not ran_out(error):
            raise
        traceback.print_exc()
        return None


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """One process a run: two would write the same files."""
    try:
        with FileLock(run.path / ".lock", timeout=LET_GO_SECONDS):
            yield
    except Timeout:
        raise UserError(
            "this run is being trained by another process", run.name, "Stop that one first: atelier stop " + run.name
        ) from None


@contextmanager
def _device(run: RunDir, patience: float) -> Iterator[None]:
    """One training at a time on a card, or in a data folder without one. Others wait: seconds, -1 for ever."""
    gpu = next(iter(cards()), "") if run.config().model.device != "cpu" else ""
    place = card_lock(gpu) if gpu else run.path.parent / ".training.lock"
    try:
        lock = _waited_for(FileLock(place), run, patience)
    except Timeout:
        problem = "a training holds the graphics card" if gpu else "another training is running"
        fix = "Ask again when it is done, or stop it: atelier runs, then atelier stop NAME."
        raise UserError(problem, run.name, fix) from None
    with lock:
        yield


def _waited_for(lock: FileLock, run: RunDir, patience: float) -> AbstractContextManager[Any]:
    """Get the lock; who waits for ever shows it, and hears a stop. Raises Timeout where patience is at its end."""
    while True:
        try:
            return lock.acquire(timeout=LOOK_SECONDS if patience < 0 else patience)
        except Timeout:
            if patience >= 0:
                raise
        run.write_status(State.PREPARING, message=WAITING)
        if run.asked("stop"):
            raise KeyboardInterrupt


def generate(request: str) -> int:
    """Draw the pictures of a request file (`-` for standard input)."""
    with quick_imports():
        from trainer.preview.answer import answer_file  # noqa: PLC0415

    answer_file(request)
    return EXIT_DONE


def grid(request: str) -> int:
    """Draw the table of pictures that a request file asks for."""
    with quick_imports():
        from trainer.preview.grids import grid_file  # noqa: PLC0415

    grid_file(request)
    return EXIT_DONE


def caption(request: str) -> int:
    """Caption the pictures of a set as a request file says."""
    from trainer.tools.captioning import caption_file  # noqa: PLC0415 - with torch and all of transformers

    caption_file(request)
    return EXIT_DONE


def fetch(request: str) -> int:
    """Fetch a base model from the Hub, as a request file says; what came before is kept."""
    from trainer.tools.downloading import fetch_file  # noqa: PLC0415

    fetch_file(request)
    return EXIT_DONE


def tool(name: str, request: str) -> int:
    """Do what a request file asks of a tool for adapter files."""
    with quick_imports():
        from trainer.export.tooling import tool_file  # noqa: PLC0415

    tool_file(name, request)
    return EXIT_DONE


def analyze(request: str) -> int:
    """Say how much of its rank an adapter uses."""
    return tool("analyze", request)


def resize(request: str) -> int:
    """Write an adapter with another rank."""
    return tool("resize", request)


def merge(request: str) -> int:
    """Write the sum of adapters, as a file or into a base."""
    return tool("merge", request)


def convert(request: str) -> int:
    """Write an adapter under other names, in another number type, or as a plain LoRA."""
    return tool("convert", request)


def serve() -> int:
    """Answer requests from standard input until it is closed."""
    with quick_imports():
        from trainer.preview.serve import serve as loop  # noqa: PLC0415

    loop(sys.stdin, sys.stdout)
    return EXIT_DONE


TOOLS = ("analyze", "resize", "merge", "convert")
COMMANDS: dict[str, tuple[Callable[..., int], str | None]] = {
    "train": (train, "run_dir"),
    "plan": (plan, "run_dir"),
    "generate": (generate, "request"),
    "grid": (grid, "request"),
    "caption": (caption, "request"),
    "fetch": (fetch, "request"),
    "analyze": (analyze, "request"),
    "resize": (resize, "request"),
    "merge": (merge, "request"),
    "convert": (convert, "request"),
    "serve": (serve, None),
}
# The program that started them reads what they print.
ANSWERED = ("plan", "generate", "grid", "caption", "fetch", *TOOLS)


def _end_with_parent() -> None:
    """Let a TERM, and the end of the program that started this one, do what Ctrl-C does: nothing temporary stays."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        "python -P -m trainer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, (function, argument) in COMMANDS.items():
        command = subparsers.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        if argument:
            command.add_argument(argument)
    values: dict[str, Any] = vars(parser.parse_args(arguments))
    name = values.pop("command")
    function, argument = COMMANDS[name]
    if name in ANSWERED and os.environ.get(FOREGROUND):
        _end_with_parent()
    try:
        return function(*values.values())
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        if name in ANSWERED:  # standard error has the libraries' words too
            sys.stdout.write(json.dumps(asdict(error)) + "\n")
        return EXIT_ASKED
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except Exception:  # noqa: BLE001 - the process's edge: the exit code must be ours
        traceback.print_exc()
        return EXIT_FAULT


if __name__ == "__main__":
    sys.exit(main())
