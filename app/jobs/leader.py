"""Who leads: one supervisor per home holds a file lock, freed by the system when it dies. Whoever serves the page sees
that there is one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from app.jobs.executors.local import CODE_ROOT, detached, environment

LOOK_SECONDS = 3.0  # how long the queue may be without a supervisor while a page is served


def supervisor_lock(home: Path) -> FileLock:
    """The lock that the one supervisor of a home holds."""
    return FileLock(home / ".supervisor.lock", thread_local=False)


def ensure_supervisor(home: Path) -> None:
    """Start the supervisor unless one is there. It belongs to nobody: it outlives this process."""
    lock = supervisor_lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    lock.release()
    with (home / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "app.jobs.supervisor", str(home)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CODE_ROOT, env=environment(), **detached(),
        )  # fmt: skip


@contextmanager
def supervised(home: Path, every: float = LOOK_SECONDS) -> Iterator[None]:
    """While the block runs, a supervisor that is killed is followed by another."""
    over = threading.Event()

    def watch() -> None:
        ensure_supervisor(home)
        while not over.wait(every):
            ensure_supervisor(home)

    watcher = threading.Thread(target=watch, name="supervised", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
