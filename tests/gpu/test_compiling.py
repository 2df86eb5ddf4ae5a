"""torch's compiler on a GPU: used, or given up aloud where the gradient differs."""

import pytest
import torch

from tests.gpu.test_graph import base, pictures, trained  # noqa: F401 - fixtures
from trainer import compiling
from trainer.contract.rundir import RunDir

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_a_run_that_asks_for_it_learns_what_it_learns_without(tmp_path, base, pictures, monkeypatch):  # noqa: F811
    monkeypatch.setattr(compiling, "GAIN", float("inf"))  # blocks as small as these are no faster
    _, plain = trained(tmp_path, base, pictures, "plain", {"kernels": "torch"})
    _, compiled = trained(tmp_path, base, pictures, "compiled", {"kernels": "torch", "compile": True})
    assert compiled == pytest.approx(plain, rel=0.02)
    run = RunDir(tmp_path / "runs" / "compiled")
    given_up = [event["text"] for event in run.events() if "without torch's compiler" in event.get("text", "")]
    assert run.engine()["compile"] is not bool(given_up), "it is used, or the reason is said"
