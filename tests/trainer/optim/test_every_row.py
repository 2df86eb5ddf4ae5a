"""Every optimiser of the catalogue: trains, goes on from a save bit for bit, and leaves a file that can be read."""

import pytest

from trainer.__main__ import main
from trainer.adapters.read import read_adapter
from trainer.contract.catalog import OPTIMIZERS
from trainer.contract.compose import compose
from trainer.contract.config import ModelSection
from trainer.contract.rundir import RunDir, State, create_run, steps
from trainer.device import choose_engine
from trainer.families.locate import load_family

NAMES = [*OPTIMIZERS, "torch.optim.NAdam"]


def optimized(home, base, pictures, name, **sections) -> RunDir:
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "flip": True},
        "adapter": {"rank": 4, "dropout": 0.1, "text_encoder": True},
        "optimizer": {"name": name},
        "training": {"steps": 4, "batch_size": 2, "accumulation": 2, "save_every": "2", "threads": 1},
        "sampling": {"every": "never"},
    }
    return create_run(home, "run", compose([layer, sections]))


def stop_after(monkeypatch, count: int) -> None:
    """Every run of this process is asked to stop after that many steps."""
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    taken = RunDir.take_request
    monkeypatch.setattr(
        RunDir, "take_request", lambda run, what: taken(run, what) or (what == "stop" and len(steps(run)) == count)
    )


def trained_through_and_in_two_parts(tmp_path, monkeypatch, count, *args, **sections) -> RunDir:
    whole, parts = (optimized(tmp_path / name, *args, **sections) for name in ("whole", "parts"))
    assert main(["train", str(whole.path)]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, count)
        assert main(["train", str(parts.path)]) == 130
    assert (parts.status().state, parts.status().step) == (State.STOPPED, count)
    assert main(["train", str(parts.path)]) == 0
    assert parts.adapter_file.read_bytes() == whole.adapter_file.read_bytes()
    return whole


@pytest.mark.parametrize("name", NAMES)
def test_every_row_trains_goes_on_and_leaves_a_file(tmp_path, monkeypatch, tiny_sd, tiny_set, name):
    run = trained_through_and_in_two_parts(tmp_path, monkeypatch, 2, tiny_sd, tiny_set, name)
    config = run.config()
    family = load_family(ModelSection(base=str(tiny_sd)), choose_engine(config, run.engine()))
    found = read_adapter(run.adapter_file, family.parts)
    assert not found.unmatched
    assert all(update.up.isfinite().all() and update.up.abs().max() > 0 for update in found.updates.values())
    losses = [event["loss"] for event in steps(run).values()]
    assert len(set(losses)) == 4
