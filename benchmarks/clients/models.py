"""The bases that files are written for: the published structures, in full size or with narrower layers.

Narrow ones have all layers under their names, and weights that are drawn from the name: the same in every process.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.full_size import TEXTS, UNETS
from tests.tiny_checkpoints import unet_to_ldm
from trainer.protocols import Target

FAMILIES = ("sd1", "sd2", "sdxl")
NARROWER = 16
_LEAST = 64  # sides of kernels and channels of pictures stay
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Base:
    """A structure of `FAMILIES`; narrow ones have a sixteenth of each width."""

    family: str
    narrow: bool

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.family} {'narrow' if self.narrow else 'full size'}"

    def shape(self, published: Shape) -> Shape:
        """The shape of a layer here, from that of the published base."""
        return tuple(map(_narrow, published)) if self.narrow else tuple(published)

    def weight(self, target: Target, published: Shape) -> Tensor:
        """A layer's weight in float32; zeros in full size, which no plain LoRA looks at."""
        shape = self.shape(published)
        if not self.narrow:
            return torch.zeros(shape)
        seed = int(hashlib.sha256(str(plain(target)).encode()).hexdigest()[:12], 16)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1

    def parts(self) -> dict[str, nn.Module]:
        """The model's parts, whose layers have these weights, or none in full size."""
        roots = skeleton(self.family)
        for part, root in roots.items() if self.narrow else ():
            for path, layer in layers(root):
                weight = self.weight(Target(part, path), tuple(layer.weight.shape))
                layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), None
        return roots


def skeleton(family: str) -> dict[str, nn.Module]:
    """The parts in full size, on torch's meta device."""
    with torch.device("meta"):
        roots: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**UNETS[family])}
        for part, config in TEXTS[family].items():
            kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
            roots[part] = kind(CLIPTextConfig(**config))
    return roots


def layers(root: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """(path, layer) of everything that an adapter may be on."""
    return ((path, one) for path, one in root.named_modules() if isinstance(one, nn.Linear | nn.Conv2d))


def plain(target: Target) -> Target:
    """A layer by the one path that it has in every version of transformers."""
    return replace(target, path=target.path.removeprefix("text_model."))


class Rooted(nn.Module):
    """A text encoder with the name before its layers that it has in the transformers that clients pin."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.text_model = getattr(root, "text_model", root)


def stability_names(unet: nn.Module) -> dict[str, str]:
    """Name of a layer in Stability's code, which checkpoints have -> its path in diffusers."""
    held = {path for path, _ in layers(unet)}
    return {name: path for name, path in unet_to_ldm(_Paths(unet), "").items() if path in held}


class _Paths:
    """A UNet whose state dict holds, for each layer, its path."""

    def __init__(self, unet: nn.Module) -> None:
        self.config, self.unet = unet.config, unet

    def state_dict(self) -> dict[str, Any]:
        """Path -> the same path."""
        return {path: path for path, _ in layers(self.unet)}


def shrink(root: nn.Module, base: Base, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Give the layers of a client's own model, on the meta device, the sizes that they have here."""
    for path, layer in layers(root):
        if wanted(path):
            layer.weight = nn.Parameter(torch.empty(base.shape(tuple(layer.weight.shape)), device="meta"), False)
            if isinstance(layer, nn.Linear):
                layer.out_features, layer.in_features = layer.weight.shape
            else:
                layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def _narrow(side: int) -> int:
    return side // NARROWER if side >= _LEAST and side % NARROWER == 0 else side
