"""A whole run in this process: what it leaves in its folder, and how it fails."""

import json
import os
import signal
import threading
import time

import pytest
import torch
from filelock import FileLock
from PIL import Image

from tests.tiny import make_pictures
from tests.trainer.test_resume import make_run
from trainer.__main__ import WAITING, main
from trainer.contract.compose import compose
from trainer.contract.latents import prune, shelf_of
from trainer.contract.rundir import RunDir, State, create_run, steps
from trainer.data.cache import LIST, read_list, write_list
from trainer.data.store import store_of
from trainer.data.views import CachedPicture, View
from trainer.formats.header import read_header
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import histogram
from trainer.state import list_checkpoints, load_latest


def test_a_run_leaves_what_the_page_needs(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=12, save_every="4")
    assert main(["train", str(run.path)]) == 0
    status = run.status()
    assert (status.state, status.step, status.total) == (State.DONE, 12, 12)
    found = steps(run)
    assert list(found) == list(range(1, 13))
    assert all(event["loss"] > 0 and event["norm"] > 0 and event["rate"] >= 0 for event in found.values())
    assert found[1]["rate"] > found[12]["rate"], "the schedule falls"
    samples = [event for event in run.events() if event["kind"] == "sample"]
    assert {event["step"] for event in samples} == {0, 6, 12}
    for event in samples:
        with Image.open(run.samples / event["file"]) as image:
            assert image.size == (64, 64)
    assert [path.name for path in list_checkpoints(run)] == ["step-000004", "step-000008", "step-000012"]
    assert run.engine()["device"] == "cpu" and run.engine()["threads"] == 1
    assert run.adapter_file.exists()
    trip = json.loads(run.adapter_file.with_suffix(".report.json").read_text())["round_trip"]
    assert trip["layers"] > 0 and trip["missing"] == 0 and trip["largest_error"] < 1e-2
    told = [event["text"] for event in run.events() if event["kind"] == "notice"]
    assert sum("works only here" in text for text in told) == 1, "no client has such a tiny base"


def everything(home, base, pictures) -> RunDir:
    """A run of two sets at two resolutions, with masks, random crops, several texts, and a picture that is broken."""
    folder, prior = make_pictures(pictures / "set", 4, size=(96, 64)), make_pictures(pictures / "prior", 6)
    (folder / "0.txt").write_text("a {red|blue} box\none, two, three, four")
    (folder / "1.txt").unlink()
    (folder / "2.png").write_bytes(b"broken")
    Image.linear_gradient("L").resize((96, 64)).save(folder / "3-masklabel.png")
    concepts = [{"path": str(prior), "regularisation": True, "class_word": "box", "repeats": 2}]
    concepts += [{"path": str(make_pictures(pictures / "hat", 1)), "share": 0.25, "caption_prefix": "hat"}]
    dataset = {"path": str(folder), "concepts": concepts, "resolution": [64, 96], "crop": "random", "flip": True}
    words = {"trigger": "zubo", "class_word": "box", "tag_dropout": 0.2, "regularisation_weight": 0.5}
    more = {"stratified": True, "pyramid_iterations": 3, "input_perturbation": 0.1, "prior": "base"}
    layer = {
        "model": {"base": str(base)},
        "dataset": {**dataset, **words},
        "adapter": {"rank": 4},
        "objective": {"weighting": "soft_min_snr", "loss": "huber", "timesteps": "logit_normal", **more},
        "training": {"epochs": 2, "batch_size": 2, "save_every": "3", "threads": 1},
        "sampling": {"every": "never"},
    }
    return create_run(home, "run", compose([layer]))


def test_a_run_of_sets_with_everything_goes_on_and_gives_the_same_file_again(tmp_path, tiny_sd):
    first = everything(tmp_path / "one", tiny_sd, tmp_path)
    assert main(["train", str(first.path)]) == 0
    events = list(first.events())
    assert [event["picture"] for event in events if event["kind"] == "quarantine"] == ["2.png"]
    (began,) = (event for event in events if event["kind"] == "start")
    assert began["pictures"] == 10
    rows, _, prompts = read_list(first.path / "cache" / LIST)
    assert "zubo box on a beach at sunset" in prompts and "box on a beach at sunset" in prompts
    planned = histogram([row.turn for row in rows], batch_size=2)
    assert sum(row.views for row in planned) == 16, "3 at 2 resolutions, a third more, as many of regularisation"
    assert [row.share and row.share.part for row in rows if row.texts[0].startswith("hat a picture")] == [0.25, 0.25]
    assert began["total"] == first.status().step == 2 * sum(row.batches for row in planned)
    second = everything(tmp_path / "two", tiny_sd, tmp_path)
    assert main(["train", str(second.path)]) == 0
    assert second.adapter_file.read_bytes() == first.adapter_file.read_bytes()
    made = [(event["what"], event["made"], event["reused"]) for event in events if event["kind"] == "cache"]
    left = [path.name for path in second.cache.iterdir()]
    assert left == [LIST], "a run that is done keeps nothing from being cleared"
    assert not any(path.stat().st_nlink > 1 for path in shelf_of(tmp_path / "two").glob("*/*.safetensors"))
    third = everything(tmp_path / "two", tiny_sd, tmp_path)
    assert main(["train", str(third.path)]) == 0
    again = [(e["what"], e["made"], e["reused"]) for e in third.events() if e["kind"] == "cache"]
    assert again == [(what, 0, count) for what, count, _ in made], "another run of the home encodes nothing"
    mine, theirs = (read_header(run.adapter_file).metadata["sshs_model_hash"] for run in (third, first))
    assert mine == theirs
    third.adapter_file.unlink()
    assert prune(shelf_of(tmp_path / "two"), limit=0).linked == 0
    assert main(["train", str(third.path)]) == 0, "its file can be made again, of pictures that are still there"
    assert read_header(third.adapter_file).metadata["sshs_model_hash"] == mine


def test_texts_that_come_with_the_batches_give_the_same_file(tmp_path, tiny_sd, tiny_set, monkeypatch):
    files = []
    for name, held in (("device", 2**30), ("host", 0)):
        monkeypatch.setattr("trainer.data.texts.HELD", held)
        run = make_run(tmp_path / name, tiny_sd, tiny_set, steps=6)
        assert main(["train", str(run.path)]) == 0
        files.append(run.adapter_file.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("every", ["never", "6"])
def test_first_samples_are_spoken_of_only_where_they_are_drawn(tmp_path, tiny_sd, tiny_set, capsys, every):
    config = make_run(tmp_path / "whole", tiny_sd, tiny_set, steps=2).config()
    sampling = config.sampling.model_copy(update={"every": every})
    run = create_run(tmp_path, "run", config.model_copy(update={"sampling": sampling}))
    assert main(["train", str(run.path)]) == 0
    assert ("drawing the first samples" in capsys.readouterr().out) == (every != "never")


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path, tiny_sd, tiny_set, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=12)
    view = View((0.0, 0.0, 64.0, 64.0), False, (64, 64, 0, 0, 64, 64), "0" * 64)
    given = {"file": "", "digest": "", "size": (64, 64), "mask_file": "", "background": "#ffffff", "texts": ("x",)}
    shown = {"resolution": 64, "bucket": Bucket(64, 64), "repeats": 1, "prior": False, "sides": 1, "views": (view,)}
    store = store_of(run)
    write_list(store.own / LIST, [CachedPicture(key="0/huge", name="huge.png", **given, **shown)], (), ("x",))
    store.put(view.latents, {"mean": torch.full((4, 8, 8), 1e30), "std": torch.ones(4, 8, 8)})
    assert main(["train", str(run.path)]) == 2
    assert "learning rate" in capsys.readouterr().err
    assert run.status().state == State.FAILED and "3 steps in a row" in run.status().message
    assert "huge.png" in run.status().message
    assert not run.adapter_file.exists()


def test_a_stop_that_was_asked_for_saves_and_ends_with_130(tmp_path, tiny_sd, tiny_set, monkeypatch):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=50)
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    asked = type(run).asked
    monkeypatch.setattr(
        type(run), "asked", lambda self, what: asked(self, what) or (what == "stop" and len(steps(self)) >= 5)
    )
    assert main(["train", str(run.path)]) == 130
    assert run.status().state == State.STOPPED
    step, tensors, _ = load_latest(run)
    assert step == run.status().step == 5 and tensors["count"] == 5


def test_a_run_killed_between_its_last_save_and_its_file_ends_with_the_same_file(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=6)
    assert main(["train", str(run.path)]) == 0
    whole = run.adapter_file.read_bytes()
    run.adapter_file.unlink()
    assert main(["train", str(run.path)]) == 0, "it starts at the last step and trains none"
    assert run.adapter_file.read_bytes() == whole


def test_a_broken_checkpoint_is_passed_over_with_a_notice(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=12, save_every="4")
    assert main(["train", str(run.path)]) == 0
    newest = list_checkpoints(run)[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    assert load_latest(run)[0] == 8
    assert any("step-000012" in event["text"] for event in run.events() if event["kind"] == "notice")


def test_a_second_process_is_refused(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=2)
    monkeypatch.setattr("trainer.__main__.LET_GO_SECONDS", 0.1)
    with FileLock(run.path / ".lock"):
        assert main(["train", str(run.path)]) == 2
    assert "another process" in capsys.readouterr().err


def test_who_waits_for_another_run_shows_it_and_hears_a_stop(tmp_path, tiny_sd, tiny_set):
    config = make_run(tmp_path, tiny_sd, tiny_set).config().model_dump(exclude_none=True)
    run = create_run(tmp_path, "waits", compose([config, {"model": {"device": "cpu"}}], "keep"))

    def stops():
        while run.status().message != WAITING:
            time.sleep(0.01)
        run.request("stop")

    stopping = threading.Thread(target=stops)
    with FileLock(run.path.parent / ".training.lock"):
        stopping.start()
        assert main(["train", str(run.path)]) == 130
    stopping.join()
    assert run.status().state == State.STOPPED and run.status().message == "Stopped before the first step."


@pytest.mark.parametrize(("saved", "message"), [(0, "the first step"), (2, "it went on from step 2")])
def test_a_run_that_is_told_to_end_while_it_loads_says_so(tmp_path, tiny_sd, tiny_set, monkeypatch, saved, message):
    run = make_run(tmp_path, tiny_sd, tiny_set)
    (run.checkpoints / f"step-{saved:06d}").mkdir()
    monkeypatch.setattr("trainer.assemble.load_family", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["train", str(run.path)]) == 130
    status = run.status()
    assert (status.state, status.step, status.message) == (State.STOPPED, saved, f"Stopped before {message}.")


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["train", str(tmp_path)]) == 2
    assert "config.toml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{}", "no json", json.dumps({"id": "x", "pictures": [], "out": "y"})])
def test_a_bad_request_is_a_sentence(tmp_path, capsys, text):
    path = tmp_path / "request.json"
    path.write_text(text)
    assert main(["generate", str(path)]) == 2
    assert "request" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_layers_of_rank_0_are_left_out_of_a_run_and_of_its_file(tmp_path, tiny_sd, tiny_set, method):
    layer = {
        "model": {"base": str(tiny_sd)},
        "dataset": {"path": str(tiny_set)},
        "adapter": {"method": method, "rank": 4, "ranks": {"*.to_q": 2, "mid_block.*": 0}},
        "training": {"steps": 1, "batch_size": 2, "threads": 1},
        "sampling": {"every": "never"},
    }
    run = create_run(tmp_path, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    names = list(read_header(run.adapter_file).tensors)
    assert names and not any("mid_block" in name for name in names)
