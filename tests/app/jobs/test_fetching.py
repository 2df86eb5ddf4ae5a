"""A base fetched from a Hub, begun by a page: stopped in the middle, resumed where it was, and what is said if not."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.jobs import fetching
from app.jobs.beside import State
from app.jobs.fetching import Fetching
from app.tabs.train.fetching import state_html
from app.views import bases
from trainer.contract.home import demo_folder, find_home

BASE, COMMIT, BYTES = "owner/practice", "c" * 40, 2**20
FOLDER = demo_folder() / "base"


class Hub(ThreadingHTTPServer):
    """Answers as the Hub does for one repository; large files come to a halt in the middle until they may go on."""

    daemon_threads = True

    def __init__(self) -> None:
        self.go_on, self.ranges = threading.Event(), list[str]()
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{BASE}"):
            self._model()
        elif path.startswith(f"/{BASE}/resolve/") and (FOLDER / (name := path.split("/", 5)[5])).is_file():
            self._file(FOLDER / name)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _model(self) -> None:
        files = [path for path in FOLDER.rglob("*") if path.is_file()]
        siblings = [{"rfilename": str(path.relative_to(FOLDER)), "size": path.stat().st_size} for path in files]
        facts = {"id": BASE, "sha": COMMIT, "siblings": siblings, "tags": [], "cardData": {"license": "apache-2.0"}}
        self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path) -> None:
        data, start = file.read_bytes(), 0
        if asked := self.headers.get("Range"):
            self.server.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
        etag = f'"{file.stat().st_size:040x}"'
        more = {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked:
            more["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if asked else 200, data[start:], more)

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2 if len(body) > BYTES and not self.server.go_on.is_set() else len(body)
        self.wfile.write(body[:half])
        self.wfile.flush()
        if half < len(body):
            self.server.go_on.wait(120)
            self.wfile.write(body[half:])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "120")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.go_on.set()
    server.shutdown()


def until(home: Path, base: str, holds: Callable[[Fetching], object]) -> Fetching:
    limit = time.monotonic() + 120
    while not holds(found := fetching.look(home, base)):
        assert time.monotonic() < limit, found
        time.sleep(0.1)
    return found


def test_a_base_is_fetched_stopped_and_fetched_on(tmp_path: Path, hub: Hub) -> None:
    home = find_home(tmp_path / "home")
    assert bases.wanting(BASE) and "size and licence are told" in bases.note_html(BASE)
    fetching.start(home, BASE)
    found = until(home, BASE, lambda it: it.progress and 0 < it.progress.done < it.progress.total)
    assert found.state is State.RUNNING and found.progress.total > found.progress.done
    assert "apache-2.0" in state_html(BASE, found)
    fetching.stop(home, BASE)
    assert fetching.look(home, BASE).state is State.STOPPED and bases.wanting(BASE)
    hub.go_on.set()
    fetching.start(home, BASE)
    found = until(home, BASE, lambda it: it.state is not State.RUNNING)
    assert found.state is State.DONE, found.error
    assert found.answer["licence"] == "apache-2.0"
    assert not bases.wanting(BASE) and bases.cached(BASE) == Path(found.answer["folder"])
    assert "diffusers folder" in bases.note_html(BASE)
    assert BASE in {base: title for title, base in bases.choices(home)}


def test_what_is_not_there_and_what_cannot_be_reached_is_said(tmp_path: Path, hub: Hub, monkeypatch) -> None:
    home = find_home(tmp_path / "home")
    fetching.start(home, "owner/nothing")
    found = until(home, "owner/nothing", lambda it: it.state is not State.RUNNING)
    assert found.state is State.FAILED and "there is no model 'owner/nothing' on the Hub" in found.error.problem
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetching.start(home, BASE)
    found = until(home, BASE, lambda it: it.state is not State.RUNNING)
    said = state_html(BASE, found)
    assert found.state is State.FAILED and "could not be fetched" in said and found.error.fix
