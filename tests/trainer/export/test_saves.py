"""An adapter file at every save: its own name, hash and weights; and nothing is lost when a run goes on."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.contract.amendments import ask
from trainer.contract.rundir import State, run_of
from trainer.export import saves
from trainer.formats.header import read_header


def bytes_of(run):
    return {path.name: path.read_bytes() for path in run.adapter_files()}


def test_every_save_is_a_file_and_an_earlier_end_stays(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6, save_every="2")
    assert main(["train", str(run.path)]) == 0
    first = bytes_of(run)
    assert list(first) == ["run.safetensors", "run-s000004.safetensors", "run-s000002.safetensors"]
    for path in run.adapter_files():
        blob, metadata = path.read_bytes(), read_header(path).metadata
        assert metadata["ss_output_name"] == metadata["modelspec.title"] == path.stem
        body = blob[8 + int.from_bytes(blob[:8], "little") :]
        assert metadata["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
        assert run_of(path) == run
    told = {path.stem: read_header(path).metadata for path in run.adapter_files()}
    assert [one["ss_steps"] for one in told.values()] == ["6", "4", "2"]
    assert {one["ss_max_train_steps"] for one in told.values()} == {"6"}
    assert len({one["sshs_model_hash"] for one in told.values()}) == 3, "each step has its own weights"
    covers = [json.loads(one["ssmd_cover_images"])[0] for one in told.values()]
    assert len(set(covers)) == 3, "samples were drawn at steps 0, 3 and 6: each has the last before it"
    ask(run, {"training": {"steps": 8}})
    assert main(["train", str(run.path)]) == 0
    second = bytes_of(run)
    assert list(second) == ["run.safetensors", *(f"run-s00000{step}.safetensors" for step in (6, 4, 2))]
    kept, old = (tmp_path / name for name in ("kept.safetensors", "old.safetensors"))
    kept.write_bytes(second["run-s000006.safetensors"])
    old.write_bytes(first["run.safetensors"])
    assert all(torch.equal(tensor, load_file(old)[name]) for name, tensor in load_file(kept).items())
    assert read_header(kept).metadata["ss_output_name"] == "run-s000006"
    assert second["run.safetensors"] != first["run.safetensors"]


def test_a_file_that_cannot_be_written_costs_no_training(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=4, save_every="2")
    run.step_file(2).mkdir()
    assert main(["train", str(run.path)]) == 0
    assert run.status().state == State.DONE and run.adapter_file.exists()
    assert any("no adapter file of step 2" in event.get("text", "") for event in run.events())


@pytest.mark.parametrize("name", ["Füchse im Schnee", "none"])
def test_a_folder_of_any_name_gives_a_file_of_a_safe_one(tmp_path, tiny_sd, tiny_set, monkeypatch, name):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=1)
    run = type(run)(run.path.rename(tmp_path / name))
    told = []
    monkeypatch.setattr(saves, "write_report", lambda path, *rest: told.append(path) or [])
    assert main(["train", str(run.path)]) == 0
    (path,) = run.adapter_files()
    assert told == [path] and path.stem == {"none": "lora-none"}.get(name, "Fuchse-im-Schnee")
    assert read_header(path).metadata["ss_output_name"] == path.stem
