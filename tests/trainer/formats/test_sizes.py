"""Rank and alpha by group and by pattern."""

import pytest

from trainer.contract.compose import compose, parse_assignments
from trainer.contract.config import AdapterSection
from trainer.contract.errors import UserError
from trainer.contract.rates import effective, part_rate
from trainer.formats.sizes import Size, check_patterns, parameters, sizes_of
from trainer.protocols import Target

QUERY = Target("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
MIDDLE = Target("unet", "mid_block.attentions.0.proj_in")
CONV = Target("unet", "down_blocks.0.resnets.0.conv1")
TEXT = Target("text_encoder", "encoder.layers.0.self_attn.q_proj")
SHAPES = {QUERY: (8, 8), MIDDLE: (8, 8, 1, 1), CONV: (8, 4, 3, 3), TEXT: (6, 6)}


def sizes(**options) -> dict[Target, Size]:
    return sizes_of(SHAPES, AdapterSection(**options))


def test_every_group_has_the_rank_and_the_scale_of_the_others_unless_it_says_so():
    assert set(sizes(rank=4).values()) == {Size(4, 1.0)}
    assert set(sizes(rank=4, alpha="double").values()) == {Size(4, 2.0)}
    own = sizes(rank=4, alpha=2, text_encoder_rank=2, conv_rank=8, conv_alpha=1)
    assert own == {QUERY: Size(4, 0.5), MIDDLE: Size(4, 0.5), CONV: Size(8, 1 / 8), TEXT: Size(2, 0.5)}
    assert own[CONV].alpha == 1 and own[TEXT].alpha == 1
    assert sizes(rank=4, text_encoder_alpha=1)[TEXT] == Size(4, 0.25)


def test_the_last_pattern_that_fits_counts_and_zero_leaves_out():
    own = sizes(rank=4, ranks={"down_blocks.*": 8, "*.conv1": 2, "text_encoder.*": 0}, alphas={"*.to_q": 4})
    assert own == {QUERY: Size(8, 0.5), MIDDLE: Size(4, 1.0), CONV: Size(2, 1.0)}


def test_rslora_divides_by_the_root_of_the_rank_and_files_say_so_to_clients():
    own = sizes(rank=16, alpha=8, rslora=True)[QUERY]
    assert own.scale == 2.0
    assert own.alpha / own.rank == own.scale, "what a client computes"
    config = compose([{"dataset": {"path": "x"}}, parse_assignments(["adapter.rslora=true", "adapter.alpha=8"])])
    assert effective(config).rate == 2 * part_rate(config, "unet")
    assert "alpha 8 / sqrt(rank 16)" in str(effective(config))


def test_as_many_numbers_as_the_matrices_have():
    assert parameters(SHAPES, sizes(rank=2)) == 2 * (16 + 16 + 8 + 36 + 12)


@pytest.mark.parametrize("key", ["ranks", "alphas"])
def test_a_pattern_that_fits_nothing_is_refused(key):
    with pytest.raises(UserError, match="down_bloks") as caught:
        check_patterns(SHAPES, AdapterSection(**{key: {"down_bloks.*": 4}}))
    assert QUERY.path in str(caught.value)


def test_nothing_left_is_refused():
    with pytest.raises(UserError, match="nothing would be trained"):
        sizes(ranks={"*": 0})


def test_patterns_are_settings_like_the_others():
    given = ['adapter.ranks={"down_blocks.*" = 8}', "adapter.targets=*.to_q, mid_block.*", "adapter.conv_rank=2"]
    config = compose([{"dataset": {"path": "x"}}, parse_assignments(given)])
    assert config.adapter.ranks == {"down_blocks.*": 8}
    assert config.adapter.patterns == ("*.to_q", "mid_block.*")
    with pytest.raises(UserError, match=r"adapter\.targets"):
        compose([{"dataset": {"path": "x"}}, parse_assignments(["adapter.targets=atention"])])
