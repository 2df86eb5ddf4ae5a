"""Which layers of a base learn, by name: the choices of `adapter.targets`, without loading anything."""

from collections.abc import Sequence
from dataclasses import dataclass

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv")
UNET_TARGETS = {
    "query+value": ("to_q", "to_v"),  # arXiv 2106.09685, section 4.2
    "attention": ATTENTION,
    "attention+ff": ATTENTION + FEED_FORWARD,
    "transformer": ATTENTION + FEED_FORWARD + PROJECTIONS,  # what kohya trains: 192 modules of an SD 1.5, 722 of an XL
    "everything": ATTENTION + FEED_FORWARD + PROJECTIONS + CONVOLUTIONS,  # as kohya with a conv_dim
}
# What may be stored in fewer bits; the layers around them are small, and what they get wrong reaches everything.
STORED = ("down_blocks", "mid_block", "up_blocks")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True, order=True)
class Target:
    """A layer that an adapter sits on: the model's part and the dotted module path in it."""

    part: str
    path: str

    def __str__(self) -> str:
        return f"{self.part}.{self.path}"


def ends_with(path: str, endings: Sequence[str]) -> bool:
    """Whether a module's path ends with one of some names; the whole of a name counts."""
    return path.endswith(tuple(f".{ending}" for ending in endings))
