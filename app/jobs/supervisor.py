"""The supervisor: `python -P -m app.jobs.supervisor HOME`. It starts what waits and watches what runs.

One leads per home (a file lock, freed by the system when it dies). It keeps nothing in memory that matters: kill it and
the trainings go on, start another and it finds them. It ends itself when nothing runs or waits and no page is served.
"""

import logging
import signal
import sys
import time
from pathlib import Path

from filelock import Timeout

from app.jobs import presence, queue, store

PERIOD = 0.7  # seconds between looks
PATIENCE = 3  # idle looks before it goes: a page that is being restarted finds it still there


def step(home: Path) -> bool:
    """Look once and start what is due; return whether there is a reason to stay."""
    queue.reconcile(home)
    queue.start_next(home)
    return bool(queue.running(home) or store.take(home) or presence.anyone(home))


def lead(home: Path) -> None:
    """Look again and again until there is no reason to stay."""
    idle = 0
    while idle < PATIENCE:
        try:
            idle = 0 if step(home) else idle + 1
        except Exception:  # one bad folder must not leave every other run without its supervisor
            logging.exception("a look at the queue failed; the next one is in a moment")
            idle += 1
        time.sleep(PERIOD)


def main(home: Path) -> None:
    """Lead this home if nobody does; look once more after letting go, for a submit that came in between."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        try:
            with queue.supervisor_lock(home).acquire(timeout=2):
                lead(home)
        except Timeout:
            return
        if not store.take(home):
            return


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(Path(sys.argv[1]))
