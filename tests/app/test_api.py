"""The jobs by HTTP."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import api
from app.jobs import queue
from app.owners import Viewer, seen_by
from tests.tiny import make_pictures
from trainer.contract.rundir import State


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)  # nothing is to start here
    make_pictures(tmp_path / "datasets" / "mine", 2)
    app = FastAPI()
    api.add(app, tmp_path)
    with TestClient(app) as client:
        yield client


def submit(client, **more):
    return client.post("/api/runs", json={"dataset": "mine", "settings": {"training.steps": 9}, **more})


def test_a_run_is_made_as_the_command_line_makes_it(client):
    answer = submit(client, name="cat", trigger="sks")
    assert answer.status_code == 201
    assert answer.json() | {"message": ""} == {
        "name": "cat", "state": "waiting", "step": 0, "total": 0, "message": "", "fix": "", "adapter": None,
    }  # fmt: skip
    config = client.get("/api/runs/cat/config").json()
    assert (config["training"]["steps"], config["dataset"]["trigger"], config["model"]["base"]) == (9, "sks", "demo")
    assert [run["name"] for run in client.get("/api/runs").json()] == ["cat"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "nowhere"}, "nowhere"),
        ({"settings": {"adapter.rnak": 8}}, "rnak"),
        ({"settings": {"steps": 8}}, "'steps' is no setting"),
        ({"settings": {"training.steps": -1}}, "training.steps"),
        ({"preset": "../../etc/passwd"}, "preset"),
        ({"base": "/nowhere/at-all.safetensors"}, "at-all"),
    ],
)
def test_a_mistake_is_a_sentence_and_no_run_is_made(client, wrong, said):
    answer = submit(client, **wrong)
    assert answer.status_code == 422 and said in str(answer.json())
    assert set(answer.json()) == {"problem", "where", "fix"}
    assert client.get("/api/runs").json() == []


def test_an_unknown_field_is_refused(client):
    assert submit(client, stepz=3).status_code == 422


def test_what_may_be_done_is_done_and_the_rest_says_why(client, tmp_path):
    submit(client, name="cat")
    assert client.post("/api/runs/cat/pause").json()["state"] == "paused"
    assert client.post("/api/runs/cat/resume").json()["state"] == "waiting"
    assert client.post("/api/runs/cat/stop").json()["state"] == "not started"
    refused = client.post("/api/runs/cat/stop")
    assert refused.status_code == 422 and refused.json()["fix"] == "There is nothing to stop."
    twin = client.post("/api/runs/cat/duplicate").json()
    assert twin["name"] != "cat" and twin["state"] == "not started"
    assert client.delete("/api/runs/cat").status_code == 204
    assert client.get("/api/runs/cat").status_code == 404
    assert len(list((tmp_path / ".trash" / "runs").iterdir())) == 1


def test_what_is_unknown_is_not_there(client):
    submit(client, name="cat")
    for answer in (
        client.get("/api/runs/dog"),
        client.post("/api/runs/cat/explode"),
        client.post("/api/runs/..%2F..%2Fetc/stop"),
        client.delete("/api/runs/dog"),
    ):
        assert answer.status_code == 404


def test_events_are_read_on_from_where_one_was(client, tmp_path):
    submit(client, name="cat")
    run = queue.entry(tmp_path, "cat").run
    run.emit("step", step=1, loss=0.5)
    first = client.get("/api/runs/cat/events").json()
    run.emit("step", step=2, loss=0.25)
    second = client.get("/api/runs/cat/events", params={"offset": first["next"]}).json()
    assert [event["step"] for event in first["events"] + second["events"]] == [1, 2]
    assert client.get("/api/runs/cat/events", params={"offset": second["next"]}).json()["events"] == []


def test_finished_files_have_an_address(client, tmp_path):
    submit(client, name="cat")
    run = queue.entry(tmp_path, "cat").run
    run.adapter_file.parent.mkdir(exist_ok=True)
    run.adapter_file.write_bytes(b"x")
    run.write_status(State.DONE, step=9, total=9)
    assert client.get("/api/runs/cat").json()["adapter"] == "/adapters/runs/cat.safetensors"
    assert [file["address"] for file in client.get("/api/adapters").json()] == ["/adapters/runs/cat.safetensors"]


def test_others_see_only_their_own(client, tmp_path):
    submit(client, name="cat")
    with seen_by(Viewer("ann", False, tmp_path)):
        assert client.get("/api/runs").json() == []
        assert client.get("/api/runs/cat").status_code == 404
        assert client.get("/api/datasets").json() == []


@pytest.mark.parametrize(
    "wish", [{}, {"dataset": "/etc"}, {"dataset": "demo/style", "preset": "/etc/passwd"},
             {"dataset": "demo/style", "settings": {"adapter.start": "/etc/passwd"}}],
)  # fmt: skip
def test_a_user_names_nothing_of_others(client, tmp_path, wish):
    with seen_by(Viewer("ann", False, tmp_path)):
        answer = submit(client, **wish)
    assert answer.status_code == 422 and "no such" in answer.json()["problem"]
    assert "mine" not in answer.json()["fix"]


def test_it_is_described(client):
    described = client.get("/api/openapi.json").json()
    assert {"/api/runs", "/api/runs/{name}", "/api/runs/{name}/{act}", "/api/adapters"} <= set(described["paths"])
    assert all(operation["description"] for path in described["paths"].values() for operation in path.values())
