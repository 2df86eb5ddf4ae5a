"""Every route that the application has, Gradio's too: other pages and other names change nothing and read nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import WebSocketDisconnect
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app import room, ui
from app.doctor import examine
from app.gate import guard, headers, origin
from app.settings import change_settings
from app.views import uploads
from tests.app.gate.conftest import OWN, clock, make_run, make_set, routes
from trainer.contract.errors import UserError

FOREIGN: dict[str, dict[str, str]] = {
    "another origin": {"origin": "http://evil.example"},
    "another port": {"origin": "http://127.0.0.1:9999"},
    "an origin that is null": {"origin": "null"},
    "another scheme of origin": {"origin": "file://"},
    "a page of another site": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    "a page of the same site": {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    "a frame": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    "a form of another page": {"origin": "http://evil.example", "content-type": "application/x-www-form-urlencoded",
                               "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
                               "sec-fetch-dest": "document"},
    "a text that is JSON": {"origin": "http://evil.example", "content-type": "text/plain"},
}  # fmt: skip
NAMES = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", "evil.example:7860",
         "192.168.1.5:7860", "0.0.0.0:7860", "[::2]:7860", "127.0.0.1@evil.example", "", "127.0.0.2:7860")  # fmt: skip
# What a browser is given of Gradio at the top, apart from /gradio_api: a new version that adds to it fails here.
TOP = {"/", "/config", "/config/", "/login", "/login/", "/logout", "/static/{path:path}", "/assets/{path:path}",
       "/favicon.ico", "/theme.css", "/robots.txt", "/manifest.json"}  # fmt: skip


@pytest.fixture(scope="module")
def client(home: Path) -> TestClient:
    make_run(home, "cat")
    make_set(home, "cats")
    return TestClient(ui.server(home, ui.Way()), base_url="http://127.0.0.1:7860", follow_redirects=False)


def filled(path: str) -> str:
    """A path with something real in its places, so that a request would do something if it were let in."""
    known = {"kind": "runs", "name": "cat.safetensors" if path.startswith("/adapters") else "cats", "token": "0" * 32,
             "first": "0", "count": "1", "path": "index.html", "path_or_url": "README.md", "url_path": "x"}  # fmt: skip
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: known.get(found[1], "1"), path)


def test_other_pages_and_names_reach_nothing(client: TestClient, home: Path) -> None:
    every = routes(client.app)
    assert len(every) > 80 and ("POST", "/gradio_api/queue/join") in every and ("POST", "/uploads") in every
    client.get("/sets/cats/pictures.zip", headers=OWN)
    before, refused = clock(home), 0
    for method, path in every:
        for words in FOREIGN.values():
            answer = client.request(method, filled(path), headers=words, json={"names": ["a.png"], "sizes": [1]})
            assert answer.status_code == 403, (method, path, words, answer.status_code)
            assert "access-control-allow-origin" not in answer.headers
            refused += 1
        for name in NAMES:
            answer = client.request(method, filled(path), headers={"host": name})
            assert answer.status_code == 400, (method, path, name, answer.status_code)
            refused += 1
    assert clock(home) == before and refused > 1500


def test_a_preflight_of_another_page_is_told_nothing(client: TestClient) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = client.options("/gradio_api/queue/join", headers=asked)
    assert answer.status_code == 403 and not [name for name in answer.headers if name.startswith("access-control")]


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/?run=cat", headers=link).status_code == 200
    assert client.get("/adapters/runs/cat.safetensors", headers=link).status_code == 403


def test_the_page_itself_and_programs_are_let_in(client: TestClient) -> None:
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
    for words in ({}, OWN, own, {**OWN, **own}, {"host": "LOCALHOST:7860", "origin": "http://localhost:7860"}):
        assert client.get("/config", headers=words).status_code == 200
        assert client.post("/gradio_api/reset", headers=words, json={"event_id": "x"}).status_code == 200


def test_what_the_page_does_not_need_of_gradio_is_shut(client: TestClient) -> None:
    ours = {one.path for one in client.app.routes if isinstance(one, APIRoute)}
    for method, path in routes(client.app):
        if path.startswith(guard.API) and guard.shut(filled(path)):
            assert client.request(method, filled(path), headers=OWN).status_code == 404
        elif not path.startswith(guard.API):
            assert path in TOP | ours or guard.shut(filled(path)), f"a new route: {path}"
    for address in ("http://169.254.169.254/latest", "https://evil.example/x.svg", "HTTP://127.0.0.1:1/", "ftp://x/y"):
        assert client.get(f"/gradio_api/file={address}", headers=OWN).status_code in (403, 404)
    for name in ("vibe-edit", "proxy=x", "dev/reload", "component_server", "process_recording", "run-history/records"):
        assert guard.shut(f"/gradio_api/{name}")


def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient) -> None:
    for path in ("/", "/config", "/adapters/runs/cat.safetensors", "/gradio_api/info", "/nothing", "/assets/x.js"):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in headers.ALWAYS} == headers.ALWAYS
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "sandbox" in client.get("/adapters/runs/cat.safetensors").headers["content-security-policy"]


def test_each_page_has_a_word_of_its_own_for_its_scripts(client: TestClient) -> None:
    words = set()
    for _ in range(3):
        answer = client.get("/")
        word = re.search(r"'nonce-([^']+)'", answer.headers["content-security-policy"])
        assert word and "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style-src")[0]
        scripts = re.findall(r"<script[^>]*>", answer.text)
        assert scripts and all(f'nonce="{word[1]}"' in script for script in scripts)
        words.add(word[1])
    assert len(words) == 3


def test_a_forwarded_name_counts_too(client: TestClient) -> None:
    for name in ("evil.example", "localhost, evil.example"):
        assert client.get("/config", headers={"x-forwarded-host": name}).status_code == 400
    assert client.get("/config", headers={"x-forwarded-host": "localhost:7860"}).status_code == 200


def test_tokens_of_the_hub_are_in_no_answer_and_no_file(client: TestClient, home: Path, monkeypatch: Any) -> None:
    secret = "hf_canaryCANARYcanaryCANARYcanary12"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, secret)
    told = str(examine(home)) + "".join(client.get(path).text for path in ("/", "/config", "/gradio_api/info"))
    assert secret not in told and len(told) > 100_000
    assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_websockets_are_refused(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join"):
        pass


def test_names_of_an_address_for_all_networks() -> None:
    allowed = origin.names("0.0.0.0", ["atelier.example:443"])
    assert {"localhost", "127.0.0.1", "atelier.example"} <= allowed and "0.0.0.0" not in allowed
    assert origin.names("192.168.1.5") == {"localhost", "127.0.0.1", "::1", "192.168.1.5"}


def test_too_much_is_refused_before_it_is_read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST", 1000)
    monkeypatch.setattr(guard, "MOST_UPLOAD", 5000)
    for path, size in (("/gradio_api/queue/join", 1001), ("/uploads", 1001), ("/gradio_api/upload", 5001)):
        assert client.post(path, content=b"x" * size, headers=OWN).status_code == 413
    pieces = (b"x" * 100 for _ in range(60))  # nothing is announced
    answer = client.post("/gradio_api/queue/join", content=pieces, headers={**OWN, "content-type": "application/json"})
    assert answer.status_code == 413


def test_what_does_not_fit_is_refused(client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = {"files": ("a.toml", b"x" * 5000)}
    assert client.post("/gradio_api/upload", files=file, headers=OWN).status_code == 200
    change_settings(home, quota_gib=(room.used(home) + 1000) / room.GIB)
    answer = client.post("/gradio_api/upload", files=file, headers=OWN)
    assert answer.status_code == 507 and "are used" in answer.text
    with pytest.raises(UserError, match="are used"):
        uploads.begin(home, ["a.png"], [5000])
    uploads.begin(home, ["a.png"], [500])
    change_settings(home, quota_gib=0.0)
    monkeypatch.setattr(room, "SPARE", 2**60)
    assert "are free" in client.post("/gradio_api/upload", files=file, headers=OWN).text


def test_a_download_is_resumed_where_it_broke_off(client: TestClient) -> None:
    path = "/adapters/runs/cat.safetensors"
    whole = client.get(path)
    part = client.get(path, headers={"range": "bytes=8-", "if-range": whole.headers["etag"]})
    assert part.status_code == 206 and part.content == whole.content[8:]
    assert part.headers["content-range"] == f"bytes 8-{len(whole.content) - 1}/{len(whole.content)}"
    assert whole.headers["accept-ranges"] == "bytes" and part.headers["content-disposition"].startswith("attachment")
    assert client.get(path, headers={"range": "bytes=99-"}).status_code == 416
    assert client.get(path, headers={"range": "bytes=8-", "if-range": '"other"'}).status_code == 200
