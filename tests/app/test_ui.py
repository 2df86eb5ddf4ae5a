"""The page: it starts fast, loads no model library, is reached by this machine only, needs nothing from elsewhere."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import ui
from app.gate import accounts
from app.jobs.executors.local import environment
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.rundir import create_run

CODE = """
import sys, time
began = time.process_time()
import app.ui
print(time.process_time() - began, [name for name in ("torch", "diffusers", "transformers") if name in sys.modules])
"""


def test_the_page_is_imported_fast_and_without_torch() -> None:
    """In seconds of the processor: a machine that is busy with other tests is no fault of the page."""
    found = [
        subprocess.run([sys.executable, "-c", CODE], env=environment(), capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert all(done.stdout.split(maxsplit=1)[1].strip() == "[]" for done in found)
    assert min(float(done.stdout.split()[0]) for done in found) <= 3.0


def test_no_event_of_the_page_runs_in_a_circle(tmp_path: Path) -> None:
    """Gradio sends an event anew, to all its listeners, for one that was busy and is "always_last"."""
    listeners = ui.build(find_home(tmp_path)).fns.values()
    heard = Counter(target for one in listeners for target in one.targets if target[0] is not None)
    shared = [one for one in listeners if any(heard[target] > 1 for target in one.targets)]
    assert shared and not [one.name for one in shared if one.trigger_mode == "always_last"]
    in_order = [one for one in shared if one.trigger_mode == "multiple" and one.fn]
    assert {one.concurrency_limit for one in in_order} == {1}, "an older answer never comes last"


def test_no_click_on_one_of_many_is_dropped(tmp_path: Path) -> None:
    """An event that says what was clicked is another one each time: "once" would lose it while one is under way."""
    clicked = [one for one in ui.build(find_home(tmp_path)).fns.values() if one.collects_event_data]
    assert {"act", "pick"} <= {name for one in clicked for _, name in one.targets}
    assert not [one.name for one in clicked if one.trigger_mode == "once"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_other_machines_are_refused_while_nobody_can_log_in(tmp_path: Path, host: str) -> None:
    home = find_home(tmp_path)
    with pytest.raises(UserError, match="there is no user") as refused:
        ui.launch(home, ui.Way(host))
    assert "atelier user add" in refused.value.fix
    accounts.add(home, "ada", "eleven cats on a roof", admin=True)
    ui.refuse_strangers(home, ui.Way(host))
    with pytest.raises(UserError, match="never open"):
        ui.launch(home, ui.Way(host, login=False))


def test_a_public_link_needs_a_user(tmp_path: Path) -> None:
    home = find_home(tmp_path)
    with pytest.raises(UserError, match="there is no user"):
        ui.launch(home, ui.Way(share=True))
    accounts.add(home, "ada", "eleven cats on a roof", admin=True)
    ui.refuse_strangers(home, ui.Way(share=True))
    with pytest.raises(UserError, match="never open"):
        ui.launch(home, ui.Way(share=True, login=False))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_is_allowed(tmp_path: Path, host: str) -> None:
    ui.refuse_strangers(find_home(tmp_path), ui.Way(host))
    with pytest.raises(UserError, match="there is no user"):
        ui.refuse_strangers(find_home(tmp_path), ui.Way(host, login=True))


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    home = find_home(tmp_path / "home")
    run = create_run(home, "cat", compose([{"dataset": {"path": "here"}}]))
    run.adapter_file.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (home / "secret.txt").write_text("secret")
    return TestClient(ui.server(home, ui.Way()), base_url="http://127.0.0.1:7860")


def test_an_adapter_is_downloaded_as_a_file(client: TestClient) -> None:
    answer = client.get("/adapters/runs/cat.safetensors")
    assert answer.content == b"\x02\0\0\0\0\0\0\0{}"
    assert answer.headers["content-disposition"] == 'attachment; filename="cat.safetensors"'


@pytest.mark.parametrize(
    "path",
    ["/adapters/runs/../../secret.txt", "/adapters/runs/%2e%2e%2fsecret.txt", "/adapters/library/cat.safetensors"],
)
def test_nothing_else_is_downloaded(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_files_of_the_home_are_not_served(client: TestClient, tmp_path: Path) -> None:
    for path in (tmp_path / "home" / "secret.txt", tmp_path / "home" / "runs" / "cat" / "config.toml"):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_foreign_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_the_page_asks_for_nothing_from_elsewhere(client: TestClient) -> None:
    look = client.get("/theme.css").text
    assert "@import" not in look and "fonts.googleapis" not in look


def test_what_a_form_shows_is_never_an_older_answer(tmp_path: Path) -> None:
    """Two quick changes reach the server side by side; it takes them one after the other, in their order."""
    blocks = ui.build(find_home(tmp_path / "home"))
    marks = next(key for key, block in blocks.blocks.items() if getattr(block, "elem_id", "") == "changed")
    showing = [fn for fn in blocks.fns.values() if any(output._id == marks for output in fn.outputs)]
    assert len(showing) >= 3, "typing, another preset, the page being loaded"
    assert {(fn.queue, fn.concurrency_limit, fn.concurrency_id) for fn in showing} == {(True, 1, "train-form")}
