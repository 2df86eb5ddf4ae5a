"""torch's compiler on a GPU: through the blocks of diffusers, recorded, with the gradient that they have without it."""

import pytest
import torch

from tests.gpu.test_graph import base, pictures, trained  # noqa: F401 - fixtures
from trainer import compiling
from trainer.contract.rundir import RunDir

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_compiled_blocks_have_the_right_gradient(tmp_path, base, pictures, monkeypatch, layout):  # noqa: F811
    monkeypatch.setattr(compiling, "GAIN", float("inf"))  # blocks as small as these are no faster
    trained(tmp_path, base, pictures, "compiled", {"kernels": "torch", "compile": True, "layout": layout})
    run = RunDir(tmp_path / "runs" / "compiled")
    assert run.engine()["compile"], [event for event in run.events() if event["kind"] == "notice"]
