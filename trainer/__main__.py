"""The trainer as a command: `python -P -m trainer train RUN_DIR`, and `plan`, `generate`, `sweep`, `caption`, `serve`.

`plan`, `generate`, `sweep` and `caption` print one JSON object as the last line of standard output: the answer, or,
where what was asked cannot be done, {"problem": ..., "where": ..., "fix": ...}.

Exit codes: 0 done, 1 a fault of ours, 2 a fault in what was asked, 130 stopped by the user and saved.
"""

import argparse
import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer.console import Reporter, reporter
from trainer.contract.errors import EXIT_ASKED, EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, UserError
from trainer.contract.files import patient
from trainer.contract.pause import Pause
from trainer.contract.preflight import preflight_of
from trainer.contract.rundir import FOREGROUND, RunDir, State
from trainer.formats.bases import find_base
from trainer.startup import growing_segments, quick_imports, read_ahead, wake_device

# Read when torch is loaded: how often a thread looks again before it sleeps. Seconds for a step of the practice base on
# two cores, alone and with another training beside it: never asleep 0.17 and over 3, always asleep 0.35 and 0.33, a
# thousand looks 0.20 and 0.41, three thousand 0.17 and 0.65.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")  # torch would look through all packages for other devices
if growing_segments():
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

Drive = Callable[[Any], int]  # an assembled run -> exit code
LET_GO_SECONDS = 15.0  # a trainer whose terminal was just killed saves and stops within this


def train(folder: str) -> int:
    """Train the run in a folder, from its last checkpoint on."""
    run = RunDir(Path(folder).resolve())
    run.config()  # before anything is written: this may be no run folder
    with _alone(run), reporter() as report:
        run.take_request("stop")  # one that an earlier process did not live to see
        try:
            return _train(run, report)
        except UserError as error:
            run.write_status(
                State.FAILED, message=f"{error.where}: {error.problem}" if error.where else error.problem, fix=error.fix
            )
            raise
        except KeyboardInterrupt:
            run.write_status(State.STOPPED, message="Stopped before the first step.")
            return EXIT_STOPPED
        except Exception as error:  # the process's edge: whatever it is, the run folder must tell of it
            run.write_status(
                State.FAILED,
                message=f"{type(error).__name__}: {error}",
                fix="This is a fault of ours: log.txt has the details.",
            )
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()


def _train(run: RunDir, report: Reporter) -> int:
    stop = threading.Event()

    def drive(assembled: Any) -> int:
        from trainer.loop import train as loop  # noqa: PLC0415

        assembled.chores.stop = stop
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: stop.set())
        return EXIT_DONE if loop(assembled) else EXIT_STOPPED

    with patient(Pause(run, report.said, stop)):
        return _on_device(run, report, drive)


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
    report.told("waiting for another run to finish", 0, 1)
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
    """One training at a time: per machine on a GPU, per data folder on a CPU. Others wait: seconds, -1 for ever."""
    gpu = run.config().model.device != "cpu" and Path("/proc/driver/nvidia").exists()
    place = Path(tempfile.gettempdir()) / "lora-atelier-gpu.lock" if gpu else run.path.parent / ".training.lock"
    try:
        with FileLock(place, timeout=patience):
            yield
    except Timeout:
        problem = "a training holds the graphics card" if gpu else "another training is running"
        fix = "Ask again when it is done, or stop it: atelier runs, then atelier stop NAME."
        raise UserError(problem, run.name, fix) from None


def generate(request: str) -> int:
    """Draw the pictures of a request file (`-` for standard input)."""
    with quick_imports():
        from trainer.preview.answer import answer_file  # noqa: PLC0415

    answer_file(request)
    return EXIT_DONE


def sweep(request: str) -> int:
    """Draw a table of prompts and strengths from a request file."""
    with quick_imports():
        from trainer.preview.sweep import sweep_file  # noqa: PLC0415

    sweep_file(request)
    return EXIT_DONE


def caption(request: str) -> int:
    """Caption the pictures of a set as a request file says."""
    from trainer.tools.captioning import caption_file  # noqa: PLC0415 - with torch and all of transformers

    caption_file(request)
    return EXIT_DONE


def serve() -> int:
    """Answer requests from standard input until it is closed."""
    with quick_imports():
        from trainer.preview.serve import serve as loop  # noqa: PLC0415

    loop(sys.stdin, sys.stdout)
    return EXIT_DONE


COMMANDS: dict[str, tuple[Callable[..., int], str | None]] = {
    "train": (train, "run_dir"),
    "plan": (plan, "run_dir"),
    "generate": (generate, "request"),
    "sweep": (sweep, "request"),
    "caption": (caption, "request"),
    "serve": (serve, None),
}
ANSWERED = ("plan", "generate", "sweep", "caption")  # their standard output is read by the program that started them


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
