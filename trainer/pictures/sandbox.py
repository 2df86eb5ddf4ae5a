"""Work on files that nobody vouches for, in processes that may crash, hang or ask for too much memory.

A worker is `python -P -m MODULE`, which calls `serve`. Requests and answers are JSON objects, one a line: nothing that
a worker sends can do more than be read. Only one file's work is lost with a worker, and another takes its place.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any

from trainer.contract.errors import UserError

try:
    import resource
except ImportError:  # Windows has no such limits: there only the time is watched, from outside
    resource = None  # type: ignore[assignment]

SECONDS = 20.0  # for one job
STARTS = 6  # tries to begin a worker that somebody else ends
START_SECONDS = 120.0  # for a worker to begin, on a busy machine with a cold disk
MEMORY = 4 * 2**30  # address space of a worker: Pillow's largest picture, twice over, and its libraries
WORKERS = min(4, os.cpu_count() or 2)

Json = dict[str, Any]


def serve(handle: Callable[[Json], Json]) -> None:
    """Be a worker: answer the jobs on standard input until it is closed.

    Args:
        handle: answers a job. A `UserError` from it ends the whole work, a `MemoryError` only this job.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints must not come between the answers
    _limit("RLIMIT_AS", MEMORY)
    _limit("RLIMIT_CORE", 0)
    _say(answers, {"ready": True})
    for line in sys.stdin.buffer:
        # If the program above was killed, nobody watches the clock any more.
        _limit("RLIMIT_CPU", int(time.process_time() + 4 * SECONDS))
        try:
            answer = handle(json.loads(line))
        except MemoryError:
            fix = "Make it smaller in a picture editor."
            answer = {"reason": f"It takes more than {MEMORY / 2**30:.0f} GiB of memory to read. {fix}"}
        except UserError as error:
            answer = {"fault": [error.problem, error.where, error.fix]}
        _say(answers, answer)


def work(
    module: str, jobs: Iterable[Json], workers: int = WORKERS, seconds: float = SECONDS
) -> Generator[Json, None, None]:
    """Have jobs done by workers; yields an answer for each, in the order of the jobs.

    Args:
        module: name of the module that calls `serve`.
        jobs: what `handle` there is given.
        workers: processes at a time.
        seconds: a job that takes longer is given up.

    Yields:
        What `handle` returned, or {"reason": sentence} for a job that cannot be done.

    Raises:
        UserError: a worker met something that concerns all jobs, such as a full disk, or none is let live.
        RuntimeError: workers do not start.
    """
    staff = _Staff(module, workers, seconds)
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(staff.ask, jobs)
    finally:
        staff.over.set()
        pool.shutdown(wait=False, cancel_futures=True)
        staff.end()
        pool.shutdown()


class _Staff:
    """The workers of one `work`, each begun when there is something for it to do.

    Attributes:
        over: nothing that is still asked counts.
    """

    def __init__(self, module: str, workers: int, seconds: float) -> None:
        self.over = threading.Event()
        self._module, self._seconds = module, seconds
        self._begun: list[_Worker] = []
        self._idle: SimpleQueue[_Worker | None] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)

    def ask(self, job: Json) -> Json:
        """Have a job done by whoever is idle; see `work`."""
        worker = self._idle.get()
        try:
            worker = worker or self._begin()
            answer = worker.ask(job, self._seconds)
            if answer is None and not self.over.is_set():  # killed from outside, which need not be the file's fault
                worker = self._begin()
                answer = worker.ask(job, self._seconds)
            worker = worker if worker.alive() else None
        finally:
            self._idle.put(worker)
        if answer is None:
            return {"reason": f"The system ended the program that was reading it, perhaps for want of memory. {_FIX}"}
        if "fault" in answer:
            raise UserError(*answer["fault"])
        return answer

    def end(self) -> None:
        """End all of them at once."""
        for worker in self._begun:
            worker.end()

    def _begin(self) -> "_Worker":
        """A worker that is ready; one that is killed from outside before it is gets another try."""
        for _ in range(STARTS):
            with suppress(InterruptedError):
                worker = _Worker(self._module)
                self._begun.append(worker)
                if self.over.is_set():  # nobody else will end it any more
                    worker.end()
                return worker
        fix = "Close other programs, then try again: what was done so far is kept."
        raise UserError("The system ends the programs that read pictures, perhaps for want of memory.", "memory", fix)


class _Worker:
    """A process and the pipes to it.

    Raises:
        RuntimeError: it does not start; InterruptedError: it was killed from outside before it could.
    """

    def __init__(self, module: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread of it reserves tens of megabytes
            start_new_session=True,  # Ctrl-C is for the program above, which then ends this one
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        line, late = self._hear(START_SECONDS)
        if not line:
            self._errors.seek(0)
            said = self._errors.read()[-2000:].decode(errors="replace")
            killed = not late and self._code() == _KILLED
            self.end()
            raise (InterruptedError if killed else RuntimeError)(f"python -m {module} does not start:\n{said}")

    def ask(self, job: Json, seconds: float) -> Json | None:
        """Have a job done; see `work`. None where the process was killed from outside."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            late, line = False, b""
        else:
            line, late = self._hear(seconds)
        if line.endswith(b"\n"):
            answer: Json = json.loads(line)
            return answer
        code = self._code()
        return {"reason": _why(code, late, seconds)} if late or code != _KILLED else None

    def alive(self) -> bool:
        """Whether it can be given another job."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):  # half a job was still to be sent
                if stream:
                    stream.close()

    def _code(self) -> int:
        """How it ended; one that closed its pipe and goes on is killed."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _hear(self, seconds: float) -> tuple[bytes, bool]:
        """A line from the worker, and whether it was killed because it took too long."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        alarm = threading.Timer(seconds, give_up)
        alarm.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
            alarm.join()
        if late.is_set():
            self._process.wait()
        return line, late.is_set()


_KILLED = -getattr(signal, "SIGKILL", 0) or None  # what no program does to itself
_FIX = "Open it in a picture editor and save it again, or remove it."


def _why(code: int, late: bool, seconds: float) -> str:
    if late or code == -getattr(signal, "SIGXCPU", 0):
        return f"Reading it takes more than {seconds:.0f} s. Save it again smaller in a picture editor, or remove it."
    return f"The program that reads pictures crashed on it. {_FIX}"


def _limit(name: str, value: int) -> None:
    if resource is None:
        return
    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    try:
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    except (OSError, ValueError) as error:  # macOS refuses some
        sys.stderr.write(f"{name} could not be set: {error}\n")


def _say(answers: IO[bytes], answer: Json) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()
