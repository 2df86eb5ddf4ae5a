"""Logging in, and the walls between users: pages, files, events, by address and by word."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from app import owners
from app.gate import guard, lockout, login
from app.gate.login import COOKIE
from app.jobs import queue, store, supervisor
from app.settings import change_settings, load_settings
from app.tabs.dataset import importing
from app.views import adapters, callers, pictures, sets
from tests.app.gate.conftest import OWN, WORD, Town, make_run, routes
from tests.app.gate.test_guard import filled
from trainer.contract.compose import compose
from trainer.contract.errors import UserError

SEEN_BY_ALL = ("/login", "/login/", "/robots.txt")


def seen_by(town: Town, name: str) -> Any:
    return owners.seen_by(owners.Viewer(name, name == "root", town.home))


def test_nothing_is_seen_without_a_login(town: Town) -> None:
    every = routes(town.clients[""].app)
    for method, path in every:
        answer = town.clients[""].request(method, filled(path), headers=OWN)
        if path not in SEEN_BY_ALL and not guard.shut(filled(path)):
            assert answer.status_code == 401, (method, path, answer.status_code)
    page = town.clients[""].get("/?run=ada-run", headers={"accept": "text/html"})
    assert page.status_code == 303 and page.headers["location"] == "/login?next=/%3Frun%3Dada-run"
    assert town.clients["ada"].get("/config").status_code == 200


@pytest.mark.parametrize("cookie", ["", "x", "../x", "a" * 5000, "' or 1=1 --", "None"])
def test_a_made_up_cookie_opens_nothing(town: Town, cookie: str) -> None:
    assert town.clients[""].get("/config", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 401


def test_coming_and_going(town: Town) -> None:
    client = TestClient(town.clients[""].app, base_url="http://127.0.0.1:7860", follow_redirects=False, headers=OWN)
    form = client.get("/login?next=/%3Frun%3Dada-run").text
    assert 'value="/?run=ada-run"' in form and "<script" not in form
    wrong = client.post("/login", data={"name": "ada", "password": "no", "next": "/?run=ada-run"})
    assert wrong.status_code == 401 and login.WRONG in wrong.text and "set-cookie" not in wrong.headers
    unknown = client.post("/login", data={"name": "eve", "password": "no", "next": "/?run=ada-run"})
    assert unknown.text.replace("eve", "ada").split("</style>")[1] == wrong.text.split("</style>")[1]
    right = client.post("/login", data={"name": " Ada ", "password": WORD, "next": "/?run=ada-run"})
    assert right.status_code == 303 and right.headers["location"] == "/?run=ada-run"
    told = right.headers["set-cookie"].lower()
    assert "httponly" in told and "samesite=lax" in told and "path=/" in told
    before = client.cookies[COOKIE]
    assert client.get("/config").status_code == 200
    assert client.get("/logout").status_code in (404, 405) or client.get("/config").status_code == 200
    assert client.post("/logout").status_code == 303
    assert client.get("/config", headers={"cookie": f"{COOKIE}={before}"}).status_code == 401


@pytest.mark.parametrize(
    "next_",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\r\nset-cookie:x=1"],
)
def test_a_login_leads_to_this_page_only(town: Town, next_: str) -> None:
    assert login._inside(next_) == "/"


def test_guessing_is_locked_by_the_tenth_try(town: Town) -> None:
    def guess(client: TestClient, word: str) -> int:
        return client.post("/login", data={"name": "bob", "password": word}).status_code

    said = [guess(town.clients[""], f"wrong {number}") for number in range(12)]
    assert said[:5] == [401] * 5 and set(said[5:]) == {429}
    assert guess(town.clients[""], WORD) == 429, "the right one is not looked at either"
    assert lockout.attempt(town.home, "bob", "10.0.0.9") > 0, "it is in the database"
    lockout.succeeded(town.home, "bob", "elsewhere")


def test_what_is_whose(town: Town) -> None:
    """Each sees their own; an admin, and a page without a login, see all."""
    seen = {}
    for name in ("ada", "bob", "root", ""):
        with seen_by(town, name):
            seen[name] = (
                {item.run.name for item in queue.entries(town.home)}, {path.name for path in sets.own(town.home)},
                {item.name for item in adapters.adapters(town.home)},
            )  # fmt: skip
    assert seen["ada"] == ({"ada-run"}, {"ada-set"}, {"ada-run"})
    assert seen["bob"] == ({"bob-run"}, {"bob-set"}, {"bob-run"}) and seen[""] == (set(), set(), set())
    assert (
        seen["root"][0] == {"ada-run", "bob-run", "machine-run"} == {item.run.name for item in queue.entries(town.home)}
    )


def test_no_file_of_somebody_else_is_read_by_its_address(town: Town) -> None:
    ada, bob, root = (town.clients[name] for name in ("ada", "bob", "root"))
    with seen_by(town, "ada"):
        entry = sets.album(town.home / "datasets" / "ada-set").entries[0]
        copy = pictures.copy(town.home, town.home / "datasets" / "ada-set" / entry.file)
    sent = ada.post("/gradio_api/upload", files={"files": ("secret.toml", b"x = 1")}).json()[0]
    addresses = ["/adapters/runs/ada-run.safetensors", f"/sets/ada-set/{entry.id}/small", "/sets/ada-set/pictures.zip",
                 f"/gradio_api/file={copy}"]  # fmt: skip
    for address in addresses:
        assert ada.get(address).status_code == 200, address
        assert bob.get(address).status_code in (403, 404), address
        assert town.clients[""].get(address).status_code == 401
    for address in addresses[:3]:
        assert root.get(address).status_code == 200
    assert ada.get(f"/gradio_api/file={sent}").status_code == 200
    assert bob.get(f"/gradio_api/file={sent}").status_code == 404
    twisted = f"{owners.PICTURES[-1]}/bob/../ada/{Path(str(copy)).name}"
    assert bob.get(f"/gradio_api/file={Path(str(copy)).parents[2]}/{twisted}").status_code == 404


def test_nothing_of_somebody_else_is_done(town: Town) -> None:
    run, folder = "ada-run", town.home / "datasets" / "ada-set"
    other = make_run(town.home, "ada-other", "ada")
    with seen_by(town, "ada"):
        trashed = queue.remove(town.home, other.name)
    bob_only = compose([{"dataset": {"path": str(folder)}}])
    for deed in (
        lambda: queue.entry(town.home, run), lambda: queue.resume(town.home, run), lambda: queue.stop(town.home, run),
        lambda: queue.remove(town.home, run), lambda: queue.move(town.home, run, True),
        lambda: queue.go_on_as_new(town.home, run), lambda: queue.restore(town.home, trashed),
        lambda: queue.entry(town.home, str(town.home / "runs" / run)), lambda: sets.album(folder),
        lambda: sets.check_own(town.home, folder), lambda: sets.check(folder), lambda: sets.editable(town.home, folder),
        lambda: queue.submit(town.home, "mine", bob_only),
        lambda: adapters.find(town.home, str(town.home / "runs" / run / "export" / f"{run}.safetensors")),
    ):  # fmt: skip
        with seen_by(town, "bob"), pytest.raises(UserError):
            deed()
    with seen_by(town, "ada"):
        assert queue.restore(town.home, trashed) == other.name and sets.album(folder).entries


@pytest.mark.parametrize("place", ["model.base", "model.vae", "adapter.start", "dataset.path"])
def test_a_run_reads_nothing_of_somebody_else(town: Town, place: str) -> None:
    section, key = place.split(".")
    layers = [{"dataset": {"path": str(town.home / "datasets" / "bob-set")}}]
    for path in (town.home / "runs" / "ada-run" / "export" / "ada-run.safetensors", Path("/etc/passwd"), Path("~/x")):
        with seen_by(town, "bob"), pytest.raises(UserError, match="among yours"):
            queue.submit(town.home, "mine", compose([*layers, {section: {key: str(path)}}]))
    assert not (town.home / "runs" / "mine").exists()


def test_a_base_that_the_machine_shares_may_be_trained_on(town: Town, tmp_path: Path) -> None:
    base = tmp_path / "models" / "base.safetensors"
    with owners.seen_by(owners.Viewer("bob", False, town.home, (str(base.parent),))):
        owners.admit({"base": str(base)})
        with pytest.raises(UserError):
            owners.admit(str(tmp_path / "other.safetensors"))
    change_settings(town.home, base=str(base), bases=("owner/name", "~/models"))
    assert load_settings(town.home).shared == (str(base), "~/models"), "a Hub id is no place"
    change_settings(town.home, base="demo", bases=())


def test_answers_go_to_who_asked(town: Town) -> None:
    reset = {"json": {"event_id": "x"}}
    assert town.clients["ada"].post("/gradio_api/reset?session_hash=adas", **reset).status_code == 200
    for path in ("/gradio_api/queue/data?session_hash=adas", "/gradio_api/heartbeat/adas"):
        assert town.clients["bob"].get(path).status_code == 404


def test_users_take_turns(town: Town) -> None:
    names = ["ada-1", "ada-2", "ada-3", "bob-1", "bob-2"]
    for name in names:
        make_run(town.home, name, name.split("-")[0])
        store.put(town.home, name)
    order = []
    while job := supervisor._turn(town.home):
        order.append(job.run)
        assert store.claim(town.home, job.run, time.time())
    assert order == ["ada-1", "bob-1", "ada-2", "bob-2", "ada-3"]
    for name in names:
        store.forget(town.home, name)


def test_what_everybody_is_given_names_nothing_of_anybody(town: Town) -> None:
    for text in (town.clients["bob"].get("/config").text, town.clients["bob"].get("/").text):
        assert "ada-run" not in text and "ada-set" not in text and "machine-run" not in text


def heard(client: TestClient, number: int, data: list[Any]) -> str:
    """What an event of the page answers."""
    body = {"data": data, "fn_index": number, "session_hash": f"hash{number}", "event_data": None, "trigger_id": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    return client.get(f"/gradio_api/queue/data?session_hash=hash{number}").text


def test_events_know_who_sends_them(town: Town) -> None:
    """Through Gradio's own queue, as a browser does it."""
    gradio = next(one.app for one in town.clients["bob"].app.routes if isinstance(one, Mount))
    blocks = gradio.get_blocks()
    listed = next(
        number for number, one in blocks.fns.items()
        if "queue-rows" in [getattr(part, "elem_id", "") for part in one.outputs] and len(one.inputs) == 2
    )  # fmt: skip
    with town.clients["bob"] as bob:
        bob.cookies, said = bob.cookies, heard(bob, listed, ["", ""])
        assert "bob-run" in said and "ada-run" not in said and "machine-run" not in said
        asked = heard(bob, listed, ["ada-run", ""])
        assert "ada-run" not in asked.replace('"ada-run|', ""), "only what was asked comes back"
        shelf = next(
            number for number, one in blocks.fns.items()
            if "library-gallery" in [getattr(part, "elem_id", "") for part in one.outputs]
            and [getattr(part, "elem_id", "") for part in one.inputs][:1] == ["library-chosen"]
        )  # fmt: skip
        shown = heard(bob, shelf, ["", "", "", "", "", "", "new", "0"])
        cover = re.search(r"/covers/[0-9a-f]{16}/small", shown)
        assert '"success":true' in shown and cover and "ada-run" not in shown and "machine-run" not in shown
        assert bob.get(cover[0]).status_code == 200 and town.clients["ada"].get(cover[0]).status_code == 404


def test_an_event_that_names_a_place_of_others_is_not_begun(town: Town) -> None:
    place = str(town.home / "datasets" / "ada-set")
    for words in (place, [place], {"a": [{"b": place}]}, json.loads(f'"{place}"'), Path(place), "~/x", "../x", "C:\\x",
                  "\\\\host\\x", "a/../../b", "x\0y", "FILE:///etc/passwd", "/proc/self/environ"):  # fmt: skip
        with seen_by(town, "bob"), pytest.raises(UserError, match="among yours"):
            owners.admit(words)
    with seen_by(town, "bob"):
        owners.admit(
            ["a cat", "and/or", "owner/name", "", "red, blue", str(town.home / "datasets" / "bob-set"), 3, None]
        )
    owners.admit([place])


def test_every_event_is_seen_by_its_sender(town: Town) -> None:
    blocks = next(one.app for one in town.clients["bob"].app.routes if isinstance(one, Mount)).get_blocks()
    tried = [one.fn for one in blocks.fns.values() if one.fn]
    assert tried and all(callers.__file__ in one.__code__.co_filename for one in tried)


def test_two_users_may_have_a_copy_of_the_same_sample(town: Town) -> None:
    for name in ("ada", "bob"):
        with seen_by(town, name):
            importing._open_sample(town.home, "style")
            list(importing._use_sample(town.home, "style"))
            assert f"sample-style-{name}" in {path.name for path in sets.own(town.home)}
            assert sets.teaches(town.home / "datasets" / f"sample-style-{name}") == "style"
    with seen_by(town, "bob"):
        assert "sample-style-ada" not in {path.name for path in sets.own(town.home)}
        assert not list(importing._again(town.home))[1:] or "ada" not in str(list(importing._again(town.home)))
