"""Two hundred ways to name a place elsewhere, in every route and every field: nothing beyond the roots is touched."""

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from app import owners, ui
from app.jobs import queue
from app.views import adapters, sets, uploads
from app.views.callers import let_each_see_their_own
from tests.app.gate.conftest import ADAPTER, OWN, Town, make_run, make_set
from trainer.contract.compose import compose
from trainer.contract.errors import UserError

SECRET = b"canary-7f3a9c"
UPS = ("../", "..\\", "..//", "....//", "..;/", "%2e%2e%2f", "%2e%2e/", "..%2f", "%252e%252e%252f", "..%5c",
       "%c0%ae%c0%ae/", "．．／", "‥/", "..\u2215", "..\u2044",
       ".\u200b./", "..\0/", "./../", "..\t/", ".. /")  # fmt: skip
ENDS = (
    "secret.txt",
    "secret.txt\0.webp",
    "secret.txt%00.safetensors",
    "SECRET.TXT",
    "secret.txt.",
    "secret.txt::$DATA",
)


def payloads(outside: Path, home: Path) -> list[str]:
    """At least two hundred; some are right on the secret, the others are what some reader takes for it."""
    relative = ["".join([up] * depth) + end for up, depth, end in itertools.product(UPS, (1, 3, 8), ENDS[:2])]
    relative += [UPS[0] * depth + end for depth in (2, 4) for end in ENDS]
    targets = [
        str(outside),
        str(home / "accounts.db"),
        str(home / "settings.toml"),
        "/etc/passwd",
        "/proc/self/environ",
    ]
    shapes = ("{}", "/{}", "//{}", "file://{}", "FILE:{}", "\\\\?\\{}", "\\\\localhost\\share{}", "C:{}", "~root/..{}",
              "{}/", "{}\0", " {}", "{}%00", "link/../..{}", "./.{}")  # fmt: skip
    absolute = [shape.format(target) for shape, target in itertools.product(shapes, targets)]
    odd = [
        "..",
        ".",
        "/",
        "~",
        "~root",
        "",
        "\0",
        "CON",
        "NUL",
        "aux.txt",
        "link/secret.txt",
        "a" * 5000,
        "\ud800",
    ]
    return [*relative, *absolute, *odd]


touched: list[tuple[str, str]] = []
watching = [False]
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.move")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching[0]:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        touched.append(
            ("write" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "read", os.fsdecode(arguments[0]))
        )
    elif event in WRITES and arguments[-1] in (-1, None):  # others are relative to a folder that is open already
        touched.extend(("write", os.fsdecode(one)) for one in arguments if isinstance(one, str | bytes))


sys.addaudithook(_hook)


@contextmanager
def nothing_beyond(home: Path, outside: Path) -> Iterator[None]:
    """The secret is neither read nor changed, and nothing is written outside the data folder."""
    touched.clear()
    watching[0] = True
    try:
        yield
    finally:
        watching[0] = False
    real = [(kind, Path(os.path.realpath(path.rstrip("\0")))) for kind, path in touched if "\0" not in path]
    assert not [path for _, path in real if path == outside], "the secret was opened"
    allowed = (home, Path("/dev"), Path("/proc"))
    beyond = {path for kind, path in real if kind == "write" and not any(path.is_relative_to(one) for one in allowed)}
    assert not [path for path in beyond if "__pycache__" not in path.parts], beyond
    assert outside.read_bytes() == SECRET


@pytest.fixture(scope="module")
def outside(home: Path) -> Path:
    path = home.parent / "secret.txt"
    path.write_bytes(SECRET)
    for room in ("datasets", "runs", "library"):
        (home / room / "link").symlink_to(home.parent)
    return path


def test_there_are_two_hundred(home: Path, outside: Path) -> None:
    assert len(set(payloads(outside, home))) >= 200


def test_every_route_with_every_one(home: Path, outside: Path) -> None:
    make_run(home, "cat")
    make_set(home, "cats")
    app = ui.server(home, ui.Way())
    client = TestClient(app, base_url="http://127.0.0.1:7860", headers=OWN, follow_redirects=False)
    shapes = ("/adapters/runs/{}", "/adapters/{}/cat.safetensors", "/sets/{}/1/small", "/sets/cats/{}/small",
              "/sets/cats/1/{}", "/sets/{}/pictures.zip", "/gradio_api/file={}", "/static/{}",
              "/assets/{}")  # fmt: skip
    with nothing_beyond(home, outside):
        for payload in payloads(outside, home):
            data = payload.encode("utf-8", "surrogatepass")
            for shape, text in itertools.product(shapes, {quote(data), quote(data, safe="/%\\;:~")}):
                answer = client.get(shape.format(text))
                assert answer.status_code < 500, (shape, payload)
                assert SECRET not in answer.content and b"root:" not in answer.content, (shape, payload)
            for method, path in (("PUT", "/uploads/{}/0/1"), ("DELETE", "/uploads/{}")):
                answer = client.request(method, path.format(quote(data)), content=b"x")
                assert answer.status_code in (400, 404, 405, 422), (path, payload)


def test_every_name_of_an_upload(home: Path, outside: Path) -> None:
    every = [text for text in payloads(outside, home) if text.isprintable() or "\0" in text]
    with nothing_beyond(home, outside):
        token, wanted = uploads.begin(home, every, [1] * len(every))
        assert wanted
        tree = uploads.place(home) / token / uploads.TREE
        _, plan = uploads._plan(uploads.place(home) / token / uploads.PLAN)
        for name, _ in plan:
            assert (tree / name).resolve().is_relative_to(tree.resolve()), name
        for into in every:
            with suppress(UserError):
                assert not into or uploads.begin(home, ["a.png"], [1], into) == "made", into
        uploads.end(home, token)


def test_every_name_that_the_page_gives(home: Path, outside: Path) -> None:
    """Without a login: what is typed as a name is a name, and what is chosen is one of a list."""
    config, file = compose([{"dataset": {"path": "here"}}]), home / ".cache" / "a.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(ADAPTER)
    with nothing_beyond(home, outside):
        for payload in payloads(outside, home):
            for deed in (queue.entry, queue.resume, queue.stop, queue.remove, queue.go_on_as_new, adapters.find):
                with pytest.raises((UserError, ValueError, OSError)):
                    deed(home, payload)
            run = sets.create(home, payload) if payload.strip() else home / "datasets" / "x"
            assert run.parent == home / "datasets"
            with suppress(UserError, ValueError):
                sets.check_own(home, Path(payload))
                raise AssertionError(payload)
        for payload in payloads(outside, home)[::9]:
            made = queue.create_run(home, payload, config)
            assert made.path.parent == home / "runs"


def test_every_field_of_every_event_of_a_user(town: Town, outside: Path) -> None:
    """Each event of the page, with a payload in each of its fields: by its sender it reaches nothing beyond."""
    blocks = ui.build(town.home)
    let_each_see_their_own(blocks, town.home)
    every, fields, refused = payloads(outside, town.home), 0, 0
    for number, one in enumerate(blocks.fns.values()):
        for place in range(len(one.inputs)):
            for payload in every[(number + place) % 8 :: 8]:
                given = [payload if place == other else "" for other in range(len(one.inputs))]
                fields += 1
                with owners.seen_by(owners.Viewer("bob", False, town.home)):
                    try:
                        owners.admit(given)
                    except UserError:
                        refused += 1
                    else:
                        assert not _leads_out(payload, town.home), payload
    assert fields > 5000 and refused > fields / 3


def _leads_out(text: str, home: Path) -> bool:
    """Whether a program that takes a text for a path would come to something that is there, and not in the home."""
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(text).expanduser()
        return bool(text.strip(" ./")) and path.exists() and not path.resolve().is_relative_to(home)
    return False


def test_a_link_in_a_folder_of_ones_own_leads_nowhere(town: Town, outside: Path) -> None:
    link = town.home / "datasets" / "bob-set" / "out"
    link.symlink_to(outside.parent)
    with owners.seen_by(owners.Viewer("bob", False, town.home)):
        for path in (link, link / outside.name, link / "home" / "datasets" / "ada-set"):
            with pytest.raises(UserError):
                owners.check(path)
    assert isinstance(gr.skip(), dict)


def test_an_event_cannot_name_a_file_that_nobody_sent(home: Path, outside: Path) -> None:
    """Gradio looks at that only where it serves itself: mounted, 6.31 copies any file that an event names."""
    application = ui.server(home, ui.Way())
    blocks = next(one.app for one in application.routes if isinstance(one, Mount)).get_blocks()
    takers = {
        number: place for number, one in blocks.fns.items() for place, part in enumerate(one.inputs)
        if isinstance(part, gr.File | gr.UploadButton)
    }  # fmt: skip
    assert takers
    with TestClient(application, base_url="http://127.0.0.1:7860", headers=OWN) as client:
        for number, place in takers.items():
            file = {"path": str(outside), "meta": {"_type": "gradio.FileData"}, "orig_name": "a.safetensors"}
            data: list[Any] = [None] * len(blocks.fns[number].inputs)
            data[place] = file
            body = {"data": data, "fn_index": number, "session_hash": f"hash{number}", "event_data": None}
            with nothing_beyond(home, outside):
                client.post("/gradio_api/queue/join", json=body)
                said = client.get(f"/gradio_api/queue/data?session_hash=hash{number}").text
            assert '"success":false' in said
        (shelf,) = [n for n in takers if blocks.fns[n].inputs[takers[n]].elem_id == "library-upload"]
        file["path"] = client.post("/gradio_api/upload", files={"files": ("a.safetensors", ADAPTER)}).json()[0]
        client.post("/gradio_api/queue/join", json={**body, "data": [file], "fn_index": shelf, "session_hash": "sent"})
        assert '"success":true' in client.get("/gradio_api/queue/data?session_hash=sent").text
    assert (home / "library" / "a.safetensors").read_bytes() == ADAPTER
    assert not [path for path in home.rglob("*") if path.is_file() and SECRET in path.read_bytes()]
