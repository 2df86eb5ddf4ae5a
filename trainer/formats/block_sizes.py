"""Ranks and alphas of blocks, as kohya's `block_dims` and `block_alphas` number them, as patterns of layers' paths.

SD 1.x and 2.x have 25 numbers: one that no layer has, 12 on the way down, the middle, 12 on the way up. SDXL has 23:
one that no layer has, 9 input blocks, 3 of the middle, 9 output blocks, one that no layer has. A resnet and the
attention behind it share a number.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.formats.sd_scripts import NoCounterpart


class _Layout(NamedTuple):
    """Of a UNet: where its numbers begin, and its levels with attention.

    Attributes:
        down, up: number of the first block on the way down and on the way up.
        levels: on either way.
        attending_down, attending_up: of these, the ones with attention.
        middle: (number, block) of the middle.
    """

    down: int
    up: int
    levels: int
    attending_down: range
    attending_up: range
    middle: tuple[tuple[int, str], ...]


_LAYOUTS = {
    25: _Layout(1, 13, 4, range(3), range(1, 4), ((12, "resnets.0"), (12, "attentions.0"), (12, "resnets.1"))),
    23: _Layout(2, 13, 3, range(1, 3), range(2), ((10, "resnets.0"), (11, "attentions.0"), (12, "resnets.1"))),
}
_BESIDE = "*[!0-9]"  # layers of a resnet that are no 3x3 convolutions: time_emb_proj, conv_shortcut


def by_path(values: Sequence[float], convolutions: bool) -> dict[str, float]:
    """Pattern of paths -> value, for `adapter.ranks` and `adapter.alphas`.

    Args:
        values: one for each number.
        convolutions: whether layers of resnets are trained too; 3x3 convolutions have ranks of their own.

    Raises:
        NoCounterpart: the count is that of no UNet here.
    """
    if len(values) not in _LAYOUTS:
        raise NoCounterpart(f"{len(values)} numbers are none here: SD 1.x and 2.x have 25 blocks, SDXL 23")
    return {
        f"{path}.{_BESIDE if 'resnets' in path else '*'}": values[number]
        for number, path in _numbered(_LAYOUTS[len(values)])
        if convolutions or "attentions" in path
    }


def _numbered(layout: _Layout) -> Iterator[tuple[int, str]]:
    """(number, path) of every resnet and attention."""
    ways = (("down", layout.down, 2, layout.attending_down), ("up", layout.up, 3, layout.attending_up))
    for way, first, layers, attending in ways:
        for level in range(layout.levels):
            for layer in range(layers):
                for kind in ("resnets", "attentions") if level in attending else ("resnets",):
                    yield first + 3 * level + layer, f"{way}_blocks.{level}.{kind}.{layer}"
    for number, path in layout.middle:
        yield number, f"mid_block.{path}"
