"""The whole application, as it is served, without and with a login."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount, Route

from app import owners, ui
from app.gate import accounts, sessions
from app.gate.login import COOKIE
from app.views import sets
from trainer.contract.compose import compose
from trainer.contract.home import demo_folder, find_home
from trainer.contract.rundir import RunDir, create_run
from trainer.pictures.importing import import_pictures

OWN = {"origin": "http://127.0.0.1:7860", "host": "127.0.0.1:7860"}
WORD = "eleven cats on a roof"
ADAPTER = b"\x02\0\0\0\0\0\0\0{}"


def clock(home: Path) -> dict[str, tuple[int, int]]:
    """Every file of a home with its size and time, but for databases, which a reader touches too, and web processes."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file() and not path.name.startswith(("accounts.db", "atelier.db")) and ".web" not in path.parts
    }


def routes(app: object) -> list[tuple[str, str]]:
    """Every (method, path) that an application knows, those of what is mounted in it too."""
    found: list[tuple[str, str]] = []

    def walk(these: list[BaseRoute], prefix: str) -> None:
        for one in these:
            if isinstance(one, Mount):
                walk(list(one.routes), prefix + one.path)
            elif isinstance(one, APIRoute | Route):
                found.extend((method, prefix + one.path) for method in sorted(one.methods or ()))
            elif hasattr(one, "original_router"):
                walk(list(one.original_router.routes), prefix)
            else:
                raise AssertionError(f"a kind of route that this test does not know: {one!r}")

    walk(list(app.routes), "")  # type: ignore[attr-defined]
    return found


def make_run(home: Path, name: str, owner: str = "") -> RunDir:
    with owners.seen_by(owners.Viewer(owner, False, home) if owner else None):
        run = create_run(home, name, compose([{"dataset": {"path": "here"}}]))
        run.adapter_file.write_bytes(ADAPTER)
        owners.sign(run.path)
    return run


def make_set(home: Path, name: str, owner: str = "") -> Path:
    with owners.seen_by(owners.Viewer(owner, False, home) if owner else None):
        folder = sets.create(home, name)
        import_pictures(sorted((demo_folder() / "style").glob("*.png"))[:1], folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made once for the tests of a file: the page takes a second to be built."""
    home = find_home(tmp_path_factory.mktemp("gate") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(home.joinpath(*owners.PASSING)))
        yield home


@dataclass
class Town:
    """Two users and an admin, what is theirs, and a browser for each."""

    home: Path
    clients: dict[str, TestClient]


@pytest.fixture(scope="module")
def town(home: Path) -> Iterator[Town]:
    for name in ("ada", "bob", "root"):
        accounts.add(home, name, WORD, admin=name == "root")
    for name in ("ada", "bob"):
        make_run(home, f"{name}-run", name)
        make_set(home, f"{name}-set", name)
    make_run(home, "machine-run")
    application = ui.server(home, ui.Way(login=True))
    clients = {}
    for name in ("ada", "bob", "root", ""):
        one = TestClient(application, base_url="http://127.0.0.1:7860", follow_redirects=False, headers=OWN)
        if name:
            one.cookies.set(COOKIE, sessions.begin(home, name))
        clients[name] = one
    yield Town(home, clients)
