"""A resume that would not be the same run is refused in plain words, and a new run can go on from it."""

import os
import shutil

import pytest
import torch

from tests.tiny import make_pictures
from tests.trainer.test_run import make_run
from trainer.__main__ import main
from trainer.contract.checkpoints import list_checkpoints
from trainer.contract.errors import UserError
from trainer.contract.rundir import State, continued, list_runs, steps, successor
from trainer.pictures.origin import accept_pictures, check_succession, digest_of
from trainer.state import MASTER, load_latest


def half_done(run):
    """As after a kill: some steps are saved, the last ones and the file are not."""
    run.adapter_file.unlink()
    shutil.rmtree(list_checkpoints(run.checkpoints)[-1])


@pytest.fixture
def trained(tmp_path, tiny_sd):
    base = shutil.copytree(tiny_sd, tmp_path / "base")
    pictures = make_pictures(tmp_path / "set", 4)
    run = make_run(tmp_path / "home", base, pictures, steps=4, save_every="2")
    assert main(["train", str(run.path)]) == 0
    whole = run.adapter_file.read_bytes()
    half_done(run)
    return run, base, pictures, whole


def edit(path, before, after):
    path.write_text(path.read_text("utf-8").replace(before, after), "utf-8")


CHANGES = {
    "caption": (lambda run, base, pictures: (pictures / "1.txt").write_text("other words"), "set/1"),
    "picture": (lambda run, base, pictures: shutil.copy(pictures / "0.png", pictures / "2.png"), "set/2"),
    "new": (lambda run, base, pictures: shutil.copy(pictures / "0.png", pictures / "new.png"), "is new"),
    "gone": (lambda run, base, pictures: (pictures / "3.png").unlink(), "is gone"),
    "base": (
        lambda run, base, pictures: next((base / "unet").glob("*.safetensors")).write_bytes(b"x" * 99),
        "base/unet/",
    ),
    "rank": (lambda run, base, pictures: edit(run.path / "config.toml", "rank = 4", "rank = 8"), "adapter.rank was 4"),
    "rate": (
        lambda run, base, pictures: edit(
            run.path / "config.toml", '\nlearning_rate = "auto"', "\nlearning_rate = 0.01"
        ),
        "optimizer.learning_rate was auto and is 0.01",
    ),
    "held out": (
        lambda run, base, pictures: edit(run.path / "config.toml", 'share = "auto"', "share = 0.25"),
        "validation.share was auto and is 0.25",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_is_named_before_anything_is_loaded(trained, what, capsys, monkeypatch):
    run, base, pictures, _ = trained
    change, said = CHANGES[what]
    change(run, base, pictures)
    monkeypatch.setattr("trainer.assemble.load_family", lambda *_: pytest.fail("the base was loaded"))
    assert main(["train", str(run.path)]) == 2
    told = capsys.readouterr().err
    assert said in told and ("--as-new" in told) == (what != "rank"), "a checkpoint fits layers of its own rank only"
    assert run.status().state == State.FAILED and said in run.status().message
    assert load_latest(run).step == 2, "nothing was lost"


def test_dates_places_of_sets_that_are_gone_and_lengths_do_not_count(trained):
    run, _, pictures, whole = trained
    for path in pictures.iterdir():
        os.utime(path, (1, 1))
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.read_bytes() == whole
    half_done(run)
    shutil.rmtree(pictures)
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.read_bytes() == whole


def test_it_goes_on_as_it_began_when_that_is_wanted(trained):
    run, _, pictures, whole = trained
    (pictures / "1.txt").write_text("other words")
    accept_pictures(run)
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.read_bytes() == whole


def test_a_run_that_has_learned_nothing_takes_what_is_there_now(trained):
    run, _, pictures, whole = trained
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    (pictures / "1.txt").write_text("other words")
    assert main(["train", str(run.path)]) == 0 and run.adapter_file.read_bytes() != whole


def test_a_new_run_goes_on_from_what_was_learned(trained, tmp_path):
    run, _, pictures, _ = trained
    (pictures / "1.txt").write_text("other words")
    new = successor(tmp_path / "home", run, continued(run, {"training": {"batch_size": 1}}))
    assert new.path != run.path and new.config().training.batch_size == 1
    first = load_latest(new)
    assert first.step == 0 and torch.equal(first.tensors[MASTER], load_latest(run).tensors[MASTER])
    assert main(["train", str(new.path)]) == 0
    assert list(steps(new)) == [1, 2, 3, 4] and load_latest(new).tensors["count"] == 4, "with a fresh optimiser"
    assert load_latest(run).step == 2 and not run.adapter_file.exists(), "the old one is as it was"


def test_what_was_handed_on_is_whole_or_refused(trained, tmp_path, capsys):
    run, *_ = trained
    new = successor(tmp_path / "home", run, continued(run, {}))
    tensors = new.checkpoints / "step-000000" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    for _ in range(2):
        assert main(["train", str(new.path)]) == 2, "to train from scratch would be another run"
        assert "--as-new" in capsys.readouterr().err


def test_a_successor_without_anything_to_begin_with_leaves_nothing(trained, tmp_path):
    run, *_ = trained
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="no checkpoint"):
        successor(tmp_path / "home", run, continued(run, {}))
    assert list_runs(tmp_path / "home") == [run]


def test_changes_for_a_successor_are_checked_like_those_of_a_new_run(trained):
    run, *_ = trained
    with pytest.raises(UserError, match="has no effect"):
        continued(run, {"objective": {"huber_c": 0.3}})
    with pytest.raises(UserError, match="too much"):
        continued(run, {"objective": {"noise_offset": 0.1, "pyramid_iterations": 6}})
    assert continued(run, {}) == run.config()
    with pytest.raises(UserError, match=r"adapter\.rank was 4 and is 8"):
        check_succession(run, continued(run, {"adapter": {"rank": 8}}))
    check_succession(run, continued(run, {"adapter": {"dropout": 0.1}}))


def test_a_digest_follows_content_and_not_dates(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"abc")
    large.write_bytes(bytes(2_000_000))
    seen = {digest_of(small), digest_of(large), digest_of(tmp_path / "none")}
    os.utime(small, (1, 1))
    assert digest_of(small) in seen and "" in seen
    for place in (0, 1_999_999):
        data = bytearray(2_000_000)
        data[place] = 1
        large.write_bytes(data)
        seen.add(digest_of(large))
    assert len(seen) == 5
