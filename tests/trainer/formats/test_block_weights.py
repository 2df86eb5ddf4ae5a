"""Blocks are numbered as people know them from LoRA Block Weight."""

import pytest

from trainer.contract.errors import UserError
from trainer.formats.block_weights import Layout

SD, XL, SMALL = Layout(4, 2), Layout(3, 2), Layout(2, 1)


def on(layout: Layout, given) -> set[str]:
    return {name for name, weight in zip(layout.names, layout.weights(given), strict=True) if weight}


@pytest.mark.parametrize(
    ("layout", "path", "name"),
    [
        (SD, "conv_in", "IN00"),
        (SD, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "IN01"),
        (SD, "down_blocks.0.downsamplers.0.conv", "IN03"),
        (SD, "down_blocks.2.attentions.1.proj_in", "IN08"),
        (SD, "down_blocks.3.resnets.1.conv1", "IN11"),
        (SD, "mid_block.attentions.0.proj_in", "MID"),
        (SD, "up_blocks.0.upsamplers.0.conv", "OUT02"),
        (SD, "up_blocks.1.attentions.0.proj_in", "OUT03"),
        (SD, "up_blocks.3.attentions.2.proj_out", "OUT11"),
        (SD, "conv_out", "OUT11"),
        (XL, "down_blocks.1.attentions.0.proj_in", "IN04"),
        (XL, "down_blocks.2.attentions.1.proj_in", "IN08"),
        (XL, "up_blocks.0.attentions.0.proj_in", "OUT00"),
        (XL, "up_blocks.1.attentions.2.proj_in", "OUT05"),
        (SMALL, "up_blocks.1.attentions.1.proj_in", "OUT03"),
    ],
)
def test_a_layer_belongs_to_the_block_of_its_ldm_number(layout, path, name):
    assert layout.names[layout.group("unet", path)] == name
    assert layout.names[layout.group("text_encoder", path)] == "BASE"


def test_numbers_of_the_attending_blocks_or_of_all():
    assert (SD.groups, XL.groups) == (26, 20)
    few = SD.weights(tuple(range(1, 18)))
    assert dict(zip(SD.names, few, strict=True))["IN08"] == 7 and few[SD.names.index("MID")] == 8
    assert few[SD.names.index("OUT11")] == 17 and few[SD.names.index("IN03")] == 0
    assert dict(zip(XL.names, XL.weights(tuple(range(1, 13))), strict=True))["OUT00"] == 7
    assert SD.weights([2.0] * 26) == (2.0,) * 26
    assert XL.weights({"IN04": 0.5}) == tuple(0.5 if name == "IN04" else 1.0 for name in XL.names)


def test_presets_are_the_extensions_where_attention_is():
    attending = {"IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{n:02}" for n in range(3, 12))}
    wanted = {
        "INS": {"IN01", "IN02"},
        "IND": {"IN05", "IN07", "IN08"},
        "MIDD": {"IN05", "IN07", "IN08", "MID", "OUT03", "OUT04", "OUT05", "OUT06"},
        "OUTD": {"OUT03", "OUT04", "OUT05", "OUT06"},
        "OUTS": {"OUT07", "OUT08", "OUT09", "OUT10", "OUT11"},
        "ALL": attending,
    }
    for name, blocks in wanted.items():
        assert on(SD, name) & (attending | {"BASE"}) == blocks | {"BASE"}
    assert on(SD, "NONE") == set() and on(SMALL, "ALL") == set(SMALL.names)


@pytest.mark.parametrize("given", ["MIDS", (1.0,) * 13, {"IN99": 1.0}])
def test_what_is_no_block_is_named(given):
    with pytest.raises(UserError, match="blocks"):
        SD.weights(given)
    if len(given) == 13:
        with pytest.raises(UserError, match="takes 10 numbers"):
            SMALL.weights(given)
