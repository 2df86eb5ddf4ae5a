"""Strengths of a UNet's blocks, numbered and named as the LoRA Block Weight extension does.

Groups: BASE (the text encoders), IN00, IN01, ... on the way down, MID, OUT00, OUT01, ... on the way up. SD 1.x and 2.x
have 26, SDXL 20; files without convolutions touch 17 and 12 of them, and may be given so many numbers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.contract.errors import UserError

# Blocks with attention, (on the way down, on the way up), by the number of blocks on a way.
_ATTENDING = {12: ((1, 2, 4, 5, 7, 8), range(3, 12)), 9: ((4, 5, 7, 8), range(6))}
_PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.")
# Name -> (from, to) as shares of each way that keep their strength: down, up; and whether the middle does.
_NONE, _SHALLOW_IN, _DEEP_IN, _ALL = (0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (0.0, 1.0)
PRESETS = {
    "ALL": (_ALL, True, _ALL),
    "NONE": (_NONE, False, _NONE),
    "INS": (_SHALLOW_IN, False, _NONE),
    "IND": (_DEEP_IN, False, _NONE),
    "INALL": (_ALL, False, _NONE),
    "MIDD": (_DEEP_IN, True, (0.0, 0.5)),
    "OUTD": (_NONE, False, (0.0, 0.5)),
    "OUTS": (_NONE, False, (0.5, 1.0)),
    "OUTALL": (_NONE, False, _ALL),
}
"""The extension's names: I(N), MID and O(UT); S for the blocks near the picture, D for the deep ones. Where a way has
12 blocks with attention as SD 1.5's has, they are the extension's; other UNets are halved the same way."""
# End of the shallow ones on the way down, first deep one there, first on the way up that is shallow again.
_SPLIT = {12: (3, 5, 7), 9: (6, 6, 3)}


@dataclass(frozen=True)
class Layout:
    """Of a UNet.

    Attributes:
        levels: on either way.
        layers: resnets of a level on the way down; on the way up there is one more.
    """

    levels: int
    layers: int

    @property
    def way(self) -> int:
        """Blocks on either way."""
        return self.levels * (self.layers + 1)

    @property
    def groups(self) -> int:
        """BASE, both ways and the middle."""
        return 2 * self.way + 2

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups, in order."""
        down, up = ([f"{way}{number:02}" for number in range(self.way)] for way in ("IN", "OUT"))
        return ("BASE", *down, "MID", *up)

    def group(self, part: str, path: str) -> int:
        """The group of a layer, by the model's part and the module's path in it, as diffusers names them.

        What stands before all blocks of a UNet goes with the first, what stands behind them with the last.
        """
        if part != "unet":
            return 0
        if path.startswith("mid_block"):
            return 1 + self.way
        if not (found := _PLACE.match(f"{path}.")):
            return self.groups - 1 if path.startswith(("conv_out", "conv_norm_out")) else 1
        level, kind, number = int(found[2]), found[3], int(found[4])
        if found[1] == "down":
            return 2 + level * (self.layers + 1) + (self.layers if kind == "downsamplers" else number)
        return 2 + self.way + level * (self.layers + 1) + (self.layers if kind == "upsamplers" else number)

    def weights(self, given: str | Sequence[float] | Mapping[str, float]) -> tuple[float, ...]:
        """Numbers of all groups.

        Args:
            given: a preset's name, numbers in order (all groups, or those with attention, the rest 0), or some blocks
                by name, the rest 1.

        Raises:
            UserError: none of these for this UNet.
        """
        if isinstance(given, str):
            return self._preset(given)
        if isinstance(given, Mapping):
            return self._named(given)
        if len(given) == self.groups:
            return tuple(given)
        down, up = _ATTENDING.get(self.way, ((), ()))
        some = ["BASE", *(f"IN{n:02}" for n in down), "MID", *(f"OUT{n:02}" for n in up)]
        if down and len(given) == len(some):
            known = dict(zip(some, given, strict=True))
            return tuple(known.get(name, 0.0) for name in self.names)
        allowed = f"{len(some)} or {self.groups}" if down else f"{self.groups}"
        raise UserError(f"{len(given)} block weights", "blocks", f"This base takes {allowed} numbers.")

    def _named(self, given: Mapping[str, float]) -> tuple[float, ...]:
        if wrong := sorted(given.keys() - set(self.names)):
            raise UserError(f"there is no block {wrong[0]}", "blocks", f"There is: {', '.join(self.names)}.")
        return tuple(given.get(name, 1.0) for name in self.names)

    def _preset(self, name: str) -> tuple[float, ...]:
        if name not in PRESETS:
            raise UserError(f"'{name}' is no block preset", "blocks", f"There is: {', '.join(PRESETS)}.")
        down, middle, up = PRESETS[name]
        half = (self.way + 1) // 2
        end, deep, shallow = _SPLIT.get(self.way, (half, half, self.way // 2))
        inside = {"IN": _between(down, end, deep, self.way), "OUT": _between(up, shallow, shallow, self.way)}
        kept = {f"{way}{number:02}" for way, numbers in inside.items() for number in numbers}
        kept |= {"MID"} if middle else set()
        base = name != "NONE"
        return tuple(float(base if one == "BASE" else one in kept) for one in self.names)


def _between(share: tuple[float, float], end: int, start: int, whole: int) -> range:
    """A share of a way: its first half ends at `end`, its second begins at `start`."""
    first, last = share
    return range(start if first else 0, whole if last == 1 else end if last else 0)
