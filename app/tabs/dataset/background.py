"""Long work beside the page, with word of how far it is."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

R = TypeVar("R")
PAUSE = 0.2  # seconds between two words


def beside(work: Callable[[Callable[[int, int], None]], R]) -> Iterator[tuple[int, int] | R]:
    """Do work in a thread, which goes on to its end if nobody listens any more.

    Args:
        work: is given what it tells (done, total) to.

    Yields:
        (done, total) some times a second, what `work` returns at last.

    Raises:
        Exception: what `work` raises.
    """
    told: queue.Queue[tuple[int, int]] = queue.Queue()
    ended: queue.Queue[R | Exception] = queue.Queue()

    def run() -> None:
        try:
            ended.put(work(lambda done, total: told.put((done, total))))
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for it
            ended.put(error)

    threading.Thread(target=run, name="beside the page").start()
    last = (0, 0)
    while True:
        while not told.empty():
            last = told.get()
        yield last
        try:
            end = ended.get(timeout=PAUSE)
        except queue.Empty:
            continue
        if isinstance(end, Exception):
            raise end
        yield end
        return
