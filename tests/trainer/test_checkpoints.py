"""Checkpoints are whole or not used: what a crash, a bad disk or a full one leaves of them."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.trainer.test_run import make_run
from trainer.__main__ import main
from trainer.contract.checkpoints import ABOUT, MANIFEST, TENSORS, fault
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir, create_run
from trainer.state import list_checkpoints, load_latest, save_checkpoint

FILES = (TENSORS, ABOUT, MANIFEST)


@pytest.fixture
def run(tmp_path) -> RunDir:
    return create_run(tmp_path, "run", compose([{"dataset": {"path": str(tmp_path)}}]))


def state(step: int) -> dict[str, torch.Tensor]:
    return {"master": torch.full((40,), float(step)), "count": torch.tensor(step)}


def truncated(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flipped(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def notices(run: RunDir) -> list[str]:
    return [event["text"] for event in run.events() if event["kind"] == "notice"]


def test_what_was_saved_comes_back(run):
    save_checkpoint(run, 7, state(7), keep=2, about={"colour": "blue"})
    found = load_latest(run)
    assert found.step == 7 and found.about["colour"] == "blue"
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state(7).items())
    assert sorted(path.name for path in list_checkpoints(run)[0].iterdir()) == sorted(FILES)


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_at_least_two_stay(run, keep):
    for step in (1, 5, 20, 1_000_000, 2_000_000):
        save_checkpoint(run, step, state(step), keep)
    kept = [5, 20, 1_000_000, 2_000_000][-max(2, keep) :]
    assert [int(path.name.removeprefix("step-")) for path in list_checkpoints(run)] == kept


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_and_every_truncation_is_found(run, name):
    path = save_checkpoint(run, 3, state(3), 2) / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            flipped(path, place, bit)
            assert fault(path.parent), f"bit {bit} of byte {place}"
            path.write_bytes(whole)
        path.write_bytes(whole[:place])
        assert fault(path.parent), f"cut at {place}"
        path.write_bytes(whole)
    assert not fault(path.parent)
    path.unlink()
    assert name in fault(path.parent)


def test_a_damaged_one_does_not_count_as_kept(run):
    for step in (1, 2, 3):
        save_checkpoint(run, step, state(step), keep=3)
    flipped(list_checkpoints(run)[-1] / TENSORS, -1)
    heard: list[str] = []
    assert load_latest(run, heard.append).step == 2
    assert heard == notices(run) and "step-000003 is damaged" in heard[0] and "step-000002" in heard[0]
    save_checkpoint(run, 4, state(4), keep=2)
    assert [path.name for path in list_checkpoints(run)] == ["step-000002", "step-000004"]
    assert len(list(run.checkpoints.iterdir())) == 2, "what was put aside is gone"


def test_nothing_whole_means_from_the_beginning(run):
    save_checkpoint(run, 1, state(1), 2)
    (list_checkpoints(run)[0] / MANIFEST).unlink()
    assert load_latest(run) is None and "from the beginning" in notices(run)[0]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_written(run, number):
    save_checkpoint(run, 1, state(1), 2)
    bad = {**state(2), "second": torch.tensor([1.0, number])}
    with pytest.raises(UserError, match="second"):
        save_checkpoint(run, 2, bad, 2)
    assert load_latest(run).step == 1 and len(list(run.checkpoints.iterdir())) == 1


def test_a_half_written_one_is_never_picked_up(run):
    save_checkpoint(run, 1, state(1), 2)
    partial = run.checkpoints / ".step-000002.1234"
    partial.mkdir()
    save_file(state(2), partial / TENSORS)
    assert load_latest(run).step == 1
    save_checkpoint(run, 3, state(3), 2)
    assert not partial.exists()


def test_torn_saves_of_a_real_run_fall_back_to_the_same_file(tmp_path, tiny_sd, tiny_set, capsys):
    """Each file of the newest checkpoint, cut and with a flipped bit: the run goes on from the one before."""
    whole = make_run(tmp_path / "whole", tiny_sd, tiny_set, steps=8, save_every="3")
    assert main(["train", str(whole.path)]) == 0
    wanted = whole.adapter_file.read_bytes()
    saved = [path.read_bytes() for path in sorted(whole.checkpoints.glob(f"*/{TENSORS}"))]
    assert len(set(saved)) == len(saved) == 3, "every step between two of them changed something"
    for number, (name, damage) in enumerate((name, damage) for name in FILES for damage in ("cut", "flip")):
        torn = RunDir(Path(shutil.copytree(whole.path, tmp_path / "torn" / str(number) / "run")))
        torn.adapter_file.unlink()
        (torn.path / "events.jsonl").unlink()
        newest = list_checkpoints(torn)[-1]
        truncated(newest / name, 0.5) if damage == "cut" else flipped(newest / name, 10)
        assert main(["train", str(torn.path)]) == 0
        starts = [event["step"] for event in torn.events() if event["kind"] == "start"]
        said = [text for text in notices(torn) if newest.name in text]
        assert starts == [6] and said and said[0] in capsys.readouterr().out
        assert torn.adapter_file.read_bytes() == wanted
