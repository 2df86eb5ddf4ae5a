"""A browser, and the page as a process of its own that a test may kill and start again."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: pip install lora-atelier[test]"
)

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NO_BROWSER = "no Chromium was found (Debian: apt-get install chromium; elsewhere: playwright install chromium)"


@dataclass
class Site:
    """The page, served by `atelier ui`."""

    home: Path
    port: int
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "app", "ui", "--data-dir", str(self.home), "--port", str(self.port)]
        command += self.options
        log = self.home.parent / "server.log"
        with log.open("ab") as stream:
            self.processes.append(subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream))
        limit = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(self.address, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # it answers: one has to log in
            except OSError:
                assert time.monotonic() < limit and self.processes[-1].poll() is None, log.read_text()
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash does."""
        self.processes[-1].send_signal(signal.SIGKILL)
        self.processes[-1].wait()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = Site(tmp_path / "home", port)
    site.home.mkdir()
    site.start()
    yield site
    site.kill()
    for process in psutil.process_iter(["cmdline"]):  # the supervisor and what it started know this home by its path
        if any(str(site.home) in part for part in process.info["cmdline"] or ()):
            process.kill()


@pytest.fixture
def page(site: Site) -> Iterator["playwright.Page"]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip(NO_BROWSER)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
        page.set_default_timeout(60_000)
        playwright.expect.set_options(timeout=60_000)
        yield page
        browser.close()
