"""Long work beside the page, with word of how far it is."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

R = TypeVar("R")
PAUSE = 0.2  # seconds between two words


class Beside(Generic[R]):
    """Work in a thread, which goes on to its end whoever listens, nobody or several.

    Args:
        work: is given what it tells (done, total) to.
    """

    def __init__(self, work: Callable[[Callable[[int, int], None]], R]) -> None:
        self._told = (0, 0)
        self._end: R | Exception
        self._over = threading.Event()
        self._when = 0.0
        threading.Thread(target=self._run, args=(work,), name="beside the page").start()

    def _run(self, work: Callable[[Callable[[int, int], None]], R]) -> None:
        def tell(done: int, total: int) -> None:
            self._told = (done, total)

        try:
            self._end = work(tell)
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for it
            self._end = error
        self._when = time.monotonic()
        self._over.set()

    def age(self) -> float:
        """Seconds since it ended; 0 while it goes on."""
        return time.monotonic() - self._when if self._over.is_set() else 0.0

    def follow(self) -> Iterator[tuple[int, int] | R]:
        """Listen from now on.

        Yields:
            (done, total) some times a second, what the work returns at last.

        Raises:
            Exception: what the work raises.
        """
        while True:
            yield self._told
            if self._over.wait(PAUSE):
                break
        if isinstance(self._end, Exception):
            raise self._end
        yield self._end


def beside(work: Callable[[Callable[[int, int], None]], R]) -> Iterator[tuple[int, int] | R]:
    """Do work in a thread and listen to it; see `Beside`."""
    yield from Beside(work).follow()
