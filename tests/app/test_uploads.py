"""Uploads: trees are kept, no name leaves the upload's own folder, only the page itself may send, limits hold."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from app import routes
from app.views import sets, uploads
from trainer.contract.errors import UserError
from trainer.contract.home import find_home

PAGE = {"origin": "http://testserver"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return find_home(tmp_path / "home")


@pytest.fixture
def client(home: Path) -> TestClient:
    app = FastAPI()
    routes.add(app, home)
    return TestClient(app)


def send(client: TestClient, files: dict[str, bytes]) -> str:
    sizes = [len(data) for data in files.values()]
    answer = client.post("/uploads", json={"names": list(files), "sizes": sizes}, headers=PAGE)
    assert answer.status_code == 200, answer.text
    token, wanted = answer.json()["token"], answer.json()["wanted"]
    for number in wanted:
        data = list(files.values())[number]
        assert client.put(f"/uploads/{token}/{number}/1", content=data, headers=PAGE).status_code == 200
    return token


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_stay_what_they_are(client: TestClient, home: Path) -> None:
    files = {"set/a/1.png": b"one", "set/a/1.txt": b"first", "set/b/1.png": b"two", "top.zip": b"zip" * 1000}
    token = send(client, {**files, "set/.hidden": b"no", "__MACOSX/1.png": b"no"})
    assert tree(uploads.arrived(home, token)) == files
    assert client.delete(f"/uploads/{token}", headers=PAGE).status_code == 200
    assert list(uploads.place(home).iterdir()) == []


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.integers(1, 30))
def test_files_of_one_request_are_cut_where_their_sizes_say(contents: list[bytes], piece: int) -> None:
    whole = b"".join(contents)

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), piece):
            yield whole[start : start + piece]

    with tempfile.TemporaryDirectory() as place:
        home = find_home(Path(place))
        names = [f"{number}.png" for number in range(len(contents))]
        token, _ = uploads.begin(home, names, [len(data) for data in contents])
        asyncio.run(uploads.receive(home, token, 0, len(contents), stream()))
        assert tree(uploads.arrived(home, token)) == dict(zip(names, contents, strict=True))


def test_a_name_that_comes_twice_keeps_its_caption(client: TestClient, home: Path) -> None:
    answer = client.post(
        "/uploads", json={"names": ["1.png", "1.txt", "1.PNG", "1.txt"], "sizes": [1] * 4}, headers=PAGE
    )
    token = answer.json()["token"]
    for number, data in enumerate((b"a", b"b", b"c", b"d")):
        client.put(f"/uploads/{token}/{number}/1", content=data, headers=PAGE)
    expected = {"1.png": b"a", "1.txt": b"b", "again-2/1.PNG": b"c", "again-2/1.txt": b"d"}
    assert tree(uploads.arrived(home, token)) == expected


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/passwd", "a/../../b.png", "..", "C:\\evil.png", "a\0b.png", "a/./b.png", "\u202e.png", ""],
)
def test_no_name_leaves_the_upload(client: TestClient, home: Path, name: str) -> None:
    token = send(client, {name: b"x", "plain.png": b"y"})
    inside = uploads.arrived(home, token)
    assert all(path.resolve().is_relative_to(inside) for path in inside.rglob("*"))
    assert not list(home.rglob("evil.png")) or all(path.is_relative_to(inside) for path in home.rglob("evil.png"))


@settings(deadline=None)
@given(st.lists(st.text(max_size=300) | st.sampled_from(["a", "A", "again-2/a"]), min_size=1, max_size=8))
def test_any_names_become_as_many_places(names: list[str]) -> None:
    safe = uploads._safe_names(names)
    assert len({name.casefold() for name in safe}) == len(names)
    for name in safe:
        parts = Path(name).parts
        assert not Path(name).is_absolute() and not set(parts) & {"..", "."}
        assert all(len(part.encode()) <= 255 for part in parts)


def test_only_the_page_may_send(client: TestClient) -> None:
    body = {"names": ["a.png"], "sizes": [1]}
    assert client.post("/uploads", json=body).status_code == 403
    assert client.post("/uploads", json=body, headers={"origin": "http://evil.example"}).status_code == 403
    token = client.post("/uploads", json=body, headers=PAGE).json()["token"]
    for origin in ({}, {"origin": "null"}, {"origin": "http://testserver.evil.example"}):
        assert client.put(f"/uploads/{token}/0/1", content=b"x", headers=origin).status_code == 403
        assert client.delete(f"/uploads/{token}", headers=origin).status_code == 403


@pytest.mark.parametrize("data", [b"", b"xx", b"x" * 10_000])
def test_a_file_of_another_size_is_not_kept(client: TestClient, home: Path, data: bytes) -> None:
    token = client.post("/uploads", json={"names": ["a.png"], "sizes": [1]}, headers=PAGE).json()["token"]
    assert client.put(f"/uploads/{token}/0/1", content=data, headers=PAGE).status_code == 400
    assert [path.name for path in (uploads.place(home) / token).rglob("*") if path.is_file()] == ["plan.json"]
    with pytest.raises(UserError, match="Nothing has arrived"):
        uploads.arrived(home, token)


def test_what_was_not_announced_is_refused(client: TestClient) -> None:
    token = send(client, {"a.png": b"x"})
    for path in (f"{token}/1/1", f"{token}/0/2", f"{token}/-1/1", f"{token}/0/0", f"{'0' * 32}/0/1", "../0/1"):
        assert client.put(f"/uploads/{path}", content=b"x", headers=PAGE).status_code in (400, 404, 405)


def test_more_than_the_disk_holds_is_refused_before_it_is_sent(client: TestClient, home: Path) -> None:
    answer = client.post("/uploads", json={"names": ["a.zip"], "sizes": [10**18]}, headers=PAGE)
    assert answer.status_code == 413 and "do not fit" in answer.json()["detail"]
    assert list(uploads.place(home).iterdir()) == []


def test_an_upload_that_nobody_ended_is_dropped(
    client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = send(client, {"a.png": b"x"})
    monkeypatch.setattr(uploads, "STALE", -1.0)
    new = send(client, {"b.png": b"x"})
    assert [path.name for path in uploads.place(home).iterdir()] == [new] != [old]


def test_the_plan_is_text(client: TestClient, home: Path) -> None:
    token = send(client, {"10_sks dog/Bild 1.png": b"x"})
    plan = json.loads((uploads.place(home) / token / uploads.PLAN).read_text())
    assert plan == {"into": "", "files": [["10_sks dog/Bild 1.png", 1]]}


def test_an_upload_belongs_to_the_set_it_was_begun_for(client: TestClient, home: Path) -> None:
    begun = {"names": ["a.png"], "sizes": [1], "into": "first"}
    assert client.post("/uploads", json=begun, headers=PAGE).status_code == 413, "there is no such set"
    first = sets.create(home, "first")
    token = client.post("/uploads", json=begun, headers=PAGE).json()["token"]
    sets.create(home, "second")
    assert uploads.destination(home, token) == first
    for path in ("..", "../runs", str(first), "first/pictures"):
        answer = client.post("/uploads", json={**begun, "into": path}, headers=PAGE)
        assert answer.status_code == 413 and "no set called" in answer.json()["detail"]
    first.rename(first.with_name("renamed"))
    with pytest.raises(UserError, match="no set called 'first'"):
        uploads.destination(home, token)


def test_a_disk_that_cannot_be_written_is_said(client: TestClient, home: Path) -> None:
    uploads.place(home).parent.mkdir(exist_ok=True)
    uploads.place(home).write_text("a file where the folder should be")
    answer = client.post("/uploads", json={"names": ["a.png"], "sizes": [1]}, headers=PAGE)
    assert answer.status_code == 507 and "File exists" in answer.json()["detail"]
