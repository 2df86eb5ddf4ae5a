"""`atelier cache`: it says what is kept, throws it away, and takes nothing from a run."""

import json

import torch
from typer.testing import CliRunner

from app.__main__ import cli
from trainer.contract.compose import compose
from trainer.contract.latents import shelf_of
from trainer.contract.rundir import State, create_run
from trainer.data.store import Store


def told(*arguments):
    done = CliRunner().invoke(cli, ["cache", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output.strip().splitlines()[-1])


def test_the_cache_is_told_and_cleared(tmp_path):
    home = str(tmp_path)
    assert told("--data-dir", home)["files"] == 0
    run = create_run(tmp_path, "one", compose([{"dataset": {"path": "x"}}]))
    store = Store(shelf_of(tmp_path), run.cache)
    store.put("ab" * 32, {"mean": torch.ones(2)})
    found = told("--data-dir", home)
    assert found["files"] == 1 and found["linked"] == found["bytes"] > 8
    assert told("--data-dir", home, "--clear")["files"] == 1
    assert told("--data-dir", home)["files"] == 0
    assert torch.equal(store.get("ab" * 32)["mean"], torch.ones(2)), "a run that is not done keeps what it uses"
    run.write_status(State.DONE)
    told("--data-dir", home, "--clear")
    assert not list(run.cache.iterdir()), "one that is done needs nothing"
