"""UNet module paths as Stability's own code (SGM, and LDM before it) has them, from those of diffusers.

diffusers counts layers within a block. SGM counts them in one row: `input_blocks` holds conv_in as 0, then the layers
and the downsampler of each down block; `output_blocks` the layers of each up block, an upsampler with the last of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_LAYER = re.compile(
    r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)"
)
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_INSIDE = {
    "resnets": {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    },
    "downsamplers": {"conv": "op"},
}


def sgm_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return module path in diffusers -> module path in SGM.

    Args:
        paths: of all layers of a UNet with any number of blocks; a part of them would be numbered wrongly.

    Raises:
        KeyError: an attention layer without its resnet, so these are not all.
    """
    paths = tuple(paths)
    places = _places(paths)
    renamed = {}
    for path in paths:
        layer = _LAYER.match(path)
        if layer is None:
            renamed[path] = _OUTSIDE.get(path, path)
        else:
            inside = path[layer.end() :].removeprefix(".")
            renamed[path] = ".".join(filter(None, (places[layer[0]], _INSIDE.get(layer[3], {}).get(inside, inside))))
    return renamed


def _places(paths: Iterable[str]) -> dict[str, str]:
    """Return each layer of a block, such as `down_blocks.1.attentions.0` -> its place, such as `input_blocks.4.1`."""
    blocks: dict[tuple[str, int], Counter[str]] = {}
    for layer in filter(None, map(_LAYER.match, paths)):
        held = blocks.setdefault((layer[1], int(layer[2] or 0)), Counter())
        held[layer[3]] = max(held[layer[3]], int(layer[4]) + 1)
    places: dict[str, str] = {}
    following = {"down_blocks": 1, "up_blocks": 0}
    for (side, block), held in sorted(blocks.items()):
        if side == "mid_block":  # resnet, attention, resnet
            places |= {f"mid_block.resnets.{i}": f"middle_block.{2 * i}" for i in range(held["resnets"])}
            places |= {f"mid_block.attentions.{i}": f"middle_block.{2 * i + 1}" for i in range(held["attentions"])}
        else:
            places |= _row(f"{side}.{block}", held, following[side])
            following[side] += held["resnets"] + held["downsamplers"]
    return places


def _row(block: str, held: Mapping[str, int], first: int) -> dict[str, str]:
    """Return the places of a block's layers, the first of them number `first` of its row."""
    row = "input_blocks" if block.startswith("down") else "output_blocks"
    places = {}
    for index in range(held["resnets"]):
        places[f"{block}.resnets.{index}"] = f"{row}.{first + index}.0"
        places[f"{block}.attentions.{index}"] = f"{row}.{first + index}.1"
    end = first + held["resnets"]
    places[f"{block}.downsamplers.0"] = f"{row}.{end}.0"
    places[f"{block}.upsamplers.0"] = f"{row}.{end - 1}.{2 if held['attentions'] else 1}"
    return places
