"""The page of a home of its own, served and looked at from outside, and a browser for it."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import ROOT

LOOK, LIMIT = 0.05, 120.0  # seconds: between looks at the processes, until something is given up
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Site:
    """A served page, its queue, and a look at all processes that know its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.web: subprocess.Popen[bytes] | None = None

    def serve(self) -> float:
        """Start the web server; seconds until its queue answers."""
        began, port = time.monotonic(), self.address.rsplit(":", 1)[1]
        with (self.home.parent / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                [sys.executable, "-m", "app", "ui", "--data-dir", str(self.home), "--port", port],
                stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip
        until(lambda: self.ask("runs") is not None, "the page answers")
        return time.monotonic() - began

    def ask(self, path: str, body: Any = None) -> Any:
        """What the HTTP API answers; None while nobody does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/api/{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read()[:500]!r}") from error
        except OSError:
            return None

    def processes(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        """Every process whose arguments name this home."""
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(self.home) in word for word in words):
                yield process, words

    def supervisors(self) -> list[psutil.Process]:
        """Those that may lead: the one that holds the lock, and those that are about to see that it is held."""
        return [process for process, words in self.processes() if "app.jobs.supervisor" in words]

    def trainers(self) -> Counter[str]:
        """How many processes train each run; what a trainer started itself is not one."""
        found = {process.pid: (process, words[-1]) for process, words in self.processes() if "train" in words}
        return Counter(Path(run).name for process, run in found.values() if process.ppid() not in found)


def until(true: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait for something. Raises RuntimeError where it does not come."""
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"after {limit:.0f} s still not: {what}")
        time.sleep(LOOK)


@contextmanager
def served(work: Path | None) -> Iterator[Site]:
    """A site with an empty home in a folder, which stays; what it started is ended at last. It is not served yet."""
    home = (work or Path(tempfile.mkdtemp())) / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    site = Site(home)
    try:
        yield site
    finally:
        for process, _ in site.processes():
            process.kill()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, as playwright drives it."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a part of the tests' packages

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


def new_page(browser: Any) -> Any:
    """A page of the usual size."""
    return browser.new_page(viewport={"width": 1440, "height": 1000})
