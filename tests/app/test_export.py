"""Files that are taken away: by `atelier export`, from the Library, and which of a run's files is the chosen one."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load_file
from typer.testing import CliRunner

from app import ui
from app.__main__ import cli
from app.views import adapters, opened, shelf
from tests.app.saved_run import END, LAYER, saved_run
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.formats.header import read_header


@pytest.fixture
def home(tmp_path):
    return find_home(tmp_path / "home")


def exported(home, *arguments) -> dict:
    done = CliRunner().invoke(cli, ["export", *map(str, arguments), "--data-dir", str(home), "--json"])
    if done.exception:
        raise done.exception
    return json.loads(done.stdout.splitlines()[-1])


def test_a_copy_has_the_name_of_its_file_inside(home, tmp_path):
    run, out = saved_run(home), tmp_path / "other.safetensors"
    assert exported(home, "fox", "--out", out) == {"ok": True, "format": "kohya", "file": str(out)}
    before, after = read_header(run.adapter_file).metadata, read_header(out).metadata
    assert after["ss_output_name"] == "other" and after["sshs_model_hash"] == before["sshs_model_hash"]
    same = tmp_path / "fox.safetensors"
    exported(home, "fox", "--out", same)
    assert same.read_bytes() == run.adapter_file.read_bytes()
    exported(home, "fox-s000100", "--out", tmp_path / "fox-s000100.safetensors")
    assert (tmp_path / "fox-s000100.safetensors").read_bytes() == run.step_file(100).read_bytes()
    with pytest.raises(UserError, match="nothing is overwritten"):
        exported(home, "fox", "--out", same)


def test_every_layout(home, tmp_path):
    saved_run(home)
    exported(home, "fox", "--format", "diffusers", "--out", tmp_path / "d.safetensors")
    assert all(name.startswith("unet.down_blocks.0.") for name in load_file(tmp_path / "d.safetensors"))
    told = exported(home, "fox", "--format", "bundle", "--step", 200, "--out", tmp_path / "fox.zip")
    assert told["holds"] == [
        "fox-s000200.safetensors", "fox-s000200.json", "fox-s000200.png", "fox-s000200-samples.png",
    ]  # fmt: skip
    with pytest.raises(UserError, match="'gguf' is no file layout"):
        exported(home, "fox", "--format", "gguf")


def test_a_step_is_chosen_and_another_after_it(home):
    run = saved_run(home)
    for step in (100, END):
        assert exported(home, "fox", "--step", step) == {
            "ok": True, "format": "kohya", "file": str(run.best_file), "step": step,
        }  # fmt: skip
        metadata = read_header(run.best_file).metadata
        assert (metadata["ss_output_name"], metadata["ss_steps"]) == ("fox-best", str(step))
        assert load_file(run.best_file)[f"{LAYER}.lora_down.weight"].flat[0] == pytest.approx(step / 1000, rel=1e-3)
    with pytest.raises(UserError, match="no adapter file of step 150") as refused:
        exported(home, "fox", "--step", 150)
    assert "100, 200, 300" in refused.value.fix


def test_files_of_a_run_stand_together(home):
    run = saved_run(home)
    (home / "library" / "theirs.safetensors").write_bytes(run.adapter_file.read_bytes())
    other = saved_run(home, "hat", ())
    names = [item.name for item in adapters.adapters(home)]
    at = names.index("fox")
    assert names[at : at + 3] == ["fox", "fox-s000200", "fox-s000100"]
    assert sorted(item.name for item in adapters.mains(home)) == ["fox", "hat", "theirs"]
    assert adapters.use(home, str(run.step_file(200))).name == "fox-best"
    found = adapters.siblings(adapters.find(home, str(run.adapter_file)))
    assert [item.name for item in found] == ["fox-best", "fox", "fox-s000200", "fox-s000100"]
    assert [item.step for item in found] == [None, None, 200, 100] and found[0].chosen
    assert adapters.cover(found[3]) == run.samples / "s000100-0.png"
    labels = [opened.version(one).partition(" (")[0] for one in found]
    assert labels == ["the chosen one", "the end", "step 200", "step 100"]
    shown = [opened.opened_html(shelf.card(home, one), "", ()) for one in found]
    assert all(html.count("<option") == 4 and "?run=fox" in html for html in shown)
    alone = opened.opened_html(shelf.card(home, adapters.find(home, str(other.adapter_file))), "", ())
    assert "library-versions" not in alone, "nothing to choose from"
    with pytest.raises(UserError, match="of no run here"):
        adapters.use(home, str(home / "library" / "theirs.safetensors"))


def test_everything_is_one_download(home):
    run = saved_run(home)
    client = TestClient(ui.server(home, ui.Way(port=7860)), base_url="http://127.0.0.1:7860")
    (item,) = adapters.mains(home)
    answer = client.get(item.bundle_link)
    assert answer.headers["content-disposition"] == 'attachment; filename="fox.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["fox.safetensors", "fox.json", "fox.png", "fox-samples.png"]
        assert archive.read("fox.safetensors") == run.adapter_file.read_bytes()
    assert not list((home / ".cache").glob("export-*")), "what is sent is deleted"
    assert client.get(f"/adapters/runs/{run.step_file(100).name}").content == run.step_file(100).read_bytes()
    assert client.get("/adapters/runs/none.zip").status_code == 404
    assert client.get(item.bundle_link, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    run.adapter_file.write_bytes(b"broken")
    assert client.get(item.bundle_link).status_code == 409 and not list(Path(home / ".cache").glob("export-*"))
