"""Running a program and noting when it said what."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def watch(
    command: Sequence[str],
    seen: Callable[[float, bytes], None],
    log: Path,
    limit: float,
    env: Mapping[str, str] | None = None,
) -> tuple[int, float, float]:
    """Run a program to its end; whatever runs longer than the limit is ended, with all that it started.

    Args:
        command: program and arguments.
        seen: told (time, bytes) of everything that it prints, as it comes.
        log: file that gets the same.
        limit: seconds.
        env: variables beside those of this process.

    Returns:
        exit code, start and end in seconds since 1970.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    whole_env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
    began = time.time()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=whole_env, cwd=ROOT, start_new_session=True
    )
    assert process.stdout is not None
    alarm = threading.Timer(limit, lambda: os.killpg(process.pid, signal.SIGKILL))
    alarm.start()
    try:
        with log.open("wb") as stream:
            while piece := process.stdout.read1(65536):  # type: ignore[attr-defined]
                seen(time.time(), piece)
                stream.write(piece)
        code = process.wait()
    finally:
        alarm.cancel()
    return code, began, time.time()


def tail(log: Path, count: int = 300) -> str:
    """The last words of a program, on one line."""
    lines = log.read_text("utf-8", errors="replace").replace("\r", "\n").splitlines()
    return " / ".join(line.strip() for line in lines if line.strip())[-count:]


def search_path(*front: Path) -> str:
    """PYTHONPATH with some folders before those that it has."""
    return os.pathsep.join(filter(None, [*map(str, front), os.environ.get("PYTHONPATH")]))
