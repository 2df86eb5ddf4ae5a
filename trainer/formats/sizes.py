"""Rank and alpha of every layer: of its group, or of the last pattern that fits its path."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from trainer.contract.config import AdapterSection
from trainer.contract.errors import UserError
from trainer.formats.targets import Target

Value = TypeVar("Value")
Shape = Sequence[int]  # [O, I] or [O, I, kh, kw]


@dataclass(frozen=True)
class Size:
    """Of one layer's update.

    Attributes:
        rank: R.
        scale: what its update is multiplied by.
    """

    rank: int
    scale: float

    @property
    def alpha(self) -> float:
        """What a file says, for clients to divide by the rank."""
        return self.scale * self.rank


def is_spatial(shape: Shape) -> bool:
    """Whether a layer is a convolution that sees more than one pixel."""
    return any(side != 1 for side in shape[2:])


def sizes_of(shapes: Mapping[Target, Shape], options: AdapterSection) -> dict[Target, Size]:
    """Sizes of the layers that get an update: all but those whose rank is set to 0.

    Args:
        shapes: target -> shape of its weight.
        options: the run's.

    Raises:
        UserError: no layer is left.
    """
    sizes = {target: _size(target, shape, options) for target, shape in shapes.items()}
    kept = {target: size for target, size in sizes.items() if size.rank}
    if not kept:
        raise UserError("every layer has the rank 0, so nothing would be trained", "adapter.ranks", "Leave some in.")
    return kept


def check_patterns(layers: Collection[Target], options: AdapterSection) -> None:
    """Refuse patterns of ranks and alphas that fit none of all the layers that could be trained.

    Raises:
        UserError: such a pattern.
    """
    for key in ("ranks", "alphas"):
        for pattern in getattr(options, key):
            _must_fit(pattern, layers, f"adapter.{key}")


def fits(pattern: str, target: Target) -> bool:
    """Whether a pattern such as `down_blocks.*.to_q` is meant for a layer; its part may stand before the path."""
    return fnmatchcase(target.path, pattern) or fnmatchcase(str(target), pattern)


def chosen(layers: Sequence[Target], patterns: Sequence[str]) -> list[Target]:
    """The layers that any of some patterns fits.

    Raises:
        UserError: a pattern that fits no layer.
    """
    for pattern in patterns:
        _must_fit(pattern, layers, "adapter.targets")
    return [layer for layer in layers if any(fits(pattern, layer) for pattern in patterns)]


def parameters(shapes: Mapping[Target, Shape], sizes: Mapping[Target, Size]) -> int:
    """Numbers in the two matrices of every layer."""
    return sum(size.rank * (shapes[target][0] + _inputs(shapes[target])) for target, size in sizes.items())


def _inputs(shape: Shape) -> int:
    count = 1
    for side in shape[1:]:
        count *= side
    return count


def _must_fit(pattern: str, layers: Collection[Target], setting: str) -> None:
    if not any(fits(pattern, target) for target in layers):
        example = next(iter(layers)).path
        raise UserError(
            f"'{pattern}' fits none of the {len(layers)} layers that could be trained",
            setting,
            f"Paths are like {example}; * stands for anything.",
        )


def group_size(group: str, options: AdapterSection) -> Size:
    """Of the layers that no pattern fits: "" for most, "conv_" for 3x3 convolutions, "text_encoder_"."""
    rank, share = _group(group, options)
    return _made(rank, share * rank, options)


def _group(group: str, options: AdapterSection) -> tuple[int, float]:
    """(rank, alpha / rank)."""
    rank, alpha = getattr(options, f"{group}rank"), getattr(options, f"{group}alpha") if group else options.alpha_value
    share = options.alpha_value / options.rank  # kept where nothing is said
    rank = options.rank if rank == "auto" else rank
    return rank, share if alpha == "auto" else alpha / rank


def _made(rank: int, alpha: float, options: AdapterSection) -> Size:
    return Size(rank, alpha / (rank**0.5 if options.rslora else rank) if rank else 0.0)


def _size(target: Target, shape: Shape, options: AdapterSection) -> Size:
    rank, share = _group("text_encoder_" if target.part != "unet" else "conv_" if is_spatial(shape) else "", options)
    rank = _last(options.ranks, target, rank)
    return _made(rank, _last(options.alphas, target, share * rank), options)


def _last(table: Mapping[str, Value], target: Target, otherwise: Value) -> Value:
    found = [value for pattern, value in table.items() if fits(pattern, target)]
    return found[-1] if found else otherwise
