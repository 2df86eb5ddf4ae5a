"""The attention probe: what counts as right, and what it leaves out. Timing is for a GPU."""

import pytest
import torch
import torch.nn.functional as F

from trainer.attention import attend_for, is_right, preferring
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.device import choose_attention, choose_engine

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", [40, 64])
def test_torchs_own_is_right(width):
    assert is_right(attend_for("torch"), width, torch.float32, CPU)


def test_a_kernel_with_a_wrong_gradient_is_not():
    def attend(query, key, value):
        return F.scaled_dot_product_attention(query, key.detach() + 0.1 * (key - key.detach()), value)

    assert not is_right(attend, 40, torch.float32, CPU)


def test_a_kernel_with_a_wrong_scale_is_not():
    assert not is_right(lambda *qkv: F.scaled_dot_product_attention(*qkv, scale=0.2), 40, torch.float32, CPU)


def test_xformers_that_is_missing_is_named_with_the_way_to_get_it():
    with pytest.raises(UserError, match="not installed") as caught:
        attend_for("xformers")
    assert "pip install" in caught.value.fix


def test_a_preferred_kernel_gives_way_to_one_that_can():
    given = [torch.randn(1, 2, 8, 16) for _ in range(3)]
    with preferring("cudnn"):  # not there on a CPU
        assert torch.isfinite(F.scaled_dot_product_attention(*given)).all()


def test_the_choice_is_kept_on_resume_and_never_open_on_a_cpu():
    config = compose([{"dataset": {"path": "x"}, "training": {"steps": 1}, "model": {"device": "cpu"}}])
    engine, found = choose_attention(choose_engine(config, {}), [])
    assert (engine.attention, found) == ("torch", None)
    assert choose_engine(config, {**engine.choices(), "attention": "flash"}).attention == "flash"
    assert choose_engine(config, {**engine.choices(), "attention": "auto"}).attention == "torch"  # of an older run
