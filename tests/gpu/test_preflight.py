"""What only a GPU can show of the dry step, the card's other users, and samples beside a recorded graph."""

import subprocess
import sys

import pytest
import torch

from tests.gpu.test_graph import base, pictures, trained  # noqa: F401 - fixtures
from trainer.__main__ import main
from trainer.contract.card import card_processes
from trainer.contract.compose import compose
from trainer.contract.preflight import preflight_of
from trainer.contract.rundir import create_run
from trainer.graph import Graphed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

HOLD = "import torch, sys; held = torch.zeros(1 << 28, device='cuda'); print('held', flush=True); sys.stdin.read()"


def test_the_dry_step_leaves_no_trace_and_costs_no_second_recording(tmp_path, base, pictures, monkeypatch):  # noqa: F811
    recorded, real = [], Graphed._record
    monkeypatch.setattr(Graphed, "_record", lambda self, batch: recorded.append(batch[0].shape) or real(self, batch))
    options = {"deterministic": True, "layout": "nchw"}
    measured = trained(tmp_path, base, pictures, "measured", options, dropout=0.5)
    assert len(recorded) == len(set(recorded)) == 2, "two shapes, each once"
    monkeypatch.setattr("trainer.assemble.seconds_per_step", lambda *_: 0.01)
    assert trained(tmp_path, base, pictures, "blind", options, dropout=0.5) == measured


def test_memory_and_the_other_processes_are_told(tmp_path, base, pictures):  # noqa: F811
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        listed = card_processes()
        layer = {"model": {"base": str(base)}, "dataset": {"path": str(pictures)}, "training": {"steps": 4}}
        run = create_run(tmp_path, "r", compose([layer]))
        assert main(["train", str(run.path)]) == 0
    finally:
        other.communicate("")
    found = preflight_of(next(event for event in run.events() if event["kind"] == "preflight"))
    assert 0 < found.allocated <= found.reserved < found.total and 0 < found.free < found.total
    assert found.total - found.free >= 1 << 30, "the other process's GiB is missing from what is free"
    assert 0 < found.seconds_per_step < 1 and "GiB" in found.words()
    assert isinstance(listed, list), listed
    if any(process.pid == other.pid for process in listed):  # in a container the driver may know other numbers
        (named,) = [process for process in found.processes if process.pid == other.pid]
        assert named.bytes >= 1 << 30 and "python" in named.name
    print(found.words(), listed, found.processes)  # noqa: T201
