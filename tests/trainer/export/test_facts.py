"""What the exported file says of its base comes from the base."""

from types import SimpleNamespace

import pytest

from trainer.contract.config import RunConfig
from trainer.export.facts import adapter_facts


@pytest.mark.parametrize(("options", "terminal"), [({"rescale_betas_zero_snr": True}, True), ({}, False)])
def test_the_facts_of_the_base(options, terminal):
    config = RunConfig.model_validate({"dataset": {"path": "set"}, "training": {"steps": 10}})
    family = SimpleNamespace(
        base_version="sdxl_base_v1-0",
        base_name="x",
        prediction="v_prediction",
        resolution=1024,
        clip_skip=1,
        scheduler=options,
    )
    picture = SimpleNamespace(texts=("a fox",), bucket=SimpleNamespace(width=1024, height=960))
    run = SimpleNamespace(name="fox", engine=dict)
    facts = adapter_facts(run, config, family, SimpleNamespace(pictures=[picture], originals=[picture]), 10, None)
    assert (facts.base_version, facts.prediction_type, facts.resolution) == ("sdxl_base_v1-0", "v_prediction", 1024)
    assert facts.zero_terminal_snr is terminal
