"""The weights of a base as files hold them: which tensor is which layer's, read one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from trainer.adapters.read import layers_of
from trainer.contract.errors import UserError
from trainer.families.checkpoint import CheckpointSource
from trainer.families.locate import find_source
from trainer.families.parts import hollow
from trainer.families.source import Source
from trainer.formats.clients.models import SD1, SD2, SDXL, model_of
from trainer.formats.header import read_header
from trainer.formats.kohya import Module
from trainer.formats.sgm import sgm_paths

UNET_NAMES = "model.diffusion_model."
FUSED = {"q_proj": 0, "k_proj": 1, "v_proj": 2}  # thirds of OpenCLIP's in_proj_weight
OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "final_layer_norm": "ln_final",
}
TEXT_MODEL = "text_model."
FAMILY_OF = {"Stable Diffusion 1.x": SD1, "Stable Diffusion 2.x": SD2, "SDXL": SDXL}  # titles of `inspect`
PRACTICE = "LoRA Atelier practice base"

Shapes = Mapping[Module, tuple[int, ...]]


@dataclass(frozen=True)
class Place:
    """Where a layer's weight lies.

    Attributes:
        file: safetensors file.
        name: of the tensor.
        third: which third of its rows, where several layers are one tensor; None for all.
        turned: whether it is stored [I, O].
    """

    file: Path
    name: str
    third: int | None = None
    turned: bool = False

    @property
    def bias(self) -> str:
        """Name of the layer's bias, if it has one: it lies as the weight does."""
        return f"{self.name.removesuffix('weight')}bias"

    def of(self, tensor: Tensor) -> Tensor:
        """The layer's weight [O, I, k...]: a view, so that what is added to it is added to the tensor."""
        if self.turned:
            return tensor.T
        return tensor if self.third is None else tensor.chunk(3)[self.third]


@dataclass(frozen=True)
class Layers:
    """The layers of a model that an adapter may change.

    Attributes:
        linear: (part, path) -> sizes of its weight; all linear and convolutional layers.
        norms: the same of norms, of one size.
        places: (part, path) -> where the base has it; {} where there is no base.
        source: the base; None where there is none.
    """

    linear: Shapes
    norms: Shapes
    places: Mapping[Module, Place]
    source: Source | None = None

    @cached_property
    def shapes(self) -> Shapes:
        """(part, path) -> sizes of the weight, of all of them."""
        return {**self.linear, **self.norms}

    @property
    def paths(self) -> dict[str, list[str]]:
        """Part -> paths, as `trainer.formats.kohya` wants them."""
        found: dict[str, list[str]] = {}
        for part, path in self.shapes:
            found.setdefault(part, []).append(path)
        return found

    def weight(self, module: Module) -> Tensor:
        """Read a layer's weight from the base.

        Raises:
            UserError: there is no base.
        """
        if module not in self.places:
            problem = "the change that this adapter makes depends on the base's weights, and no base is given"
            raise UserError(problem, "--base", "Give the base it was trained on.")
        place = self.places[module]
        with safe_open(place.file, "pt") as file:
            return place.of(file.get_tensor(place.name)).reshape(self.shapes[module])


def family_layers(family: str) -> Layers | None:
    """The layers of a published family, by the title that `inspect` gives it; None where it is not known."""
    if family == PRACTICE:
        return base_layers("demo")
    if family not in FAMILY_OF:
        return None
    layers = model_of(FAMILY_OF[family]).layers
    linear, norms = (
        {(layer.part, layer.path): layer.shape for layer in layers if layer.norm is norm} for norm in (False, True)
    )
    return Layers(linear, norms, {})


@cache
def base_layers(base: str) -> Layers:
    """The layers of a base, and where they lie; no weights are read.

    Raises:
        UserError: there is no such base, or it is none that can be trained.
    """
    source = find_source(base)
    encoders = ("text_encoder", "text_encoder_2") if source.facts.family == "sdxl" else ("text_encoder",)
    shapes = layers_of({part: hollow(part, source.config(part)) for part in ("unet", *encoders)})
    places = _file_places(source, shapes) if isinstance(source, CheckpointSource) else _folder_places(source, shapes)
    linear, norms = ({module: shape for module, shape in shapes.items() if (len(shape) == 1) is norm}
                     for norm in (False, True))  # fmt: skip
    return Layers(linear, norms, places, source)


def _folder_places(source: Source, shapes: Shapes) -> dict[Module, Place]:
    held = {
        (part, name.removeprefix(TEXT_MODEL)): Place(file, name)
        for part in dict.fromkeys(part for part, _ in shapes)
        for file in source.files(part)
        for name in read_header(file).tensors
    }
    found = {(part, path): held.get((part, f"{path.removeprefix(TEXT_MODEL)}.weight")) for part, path in shapes}
    return {module: place for module, place in found.items() if place}


def _file_places(source: CheckpointSource, shapes: Shapes) -> dict[Module, Place]:
    path = source.facts.path
    inside = {part: source.checkpoint.names(part) for part in dict.fromkeys(part for part, _ in shapes)}
    sgm = sgm_paths(path for part, path in shapes if part == "unet")
    found = {}
    for part, layer in shapes:
        for name, options in _spellings(part, sgm.get(layer, layer) if part == "unet" else layer):
            if name in inside[part]:
                found[part, layer] = Place(path, inside[part][name], **options)
                break
    return found


def _spellings(part: str, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Names of a weight within a part of a single file, as CLIP and OpenCLIP have them, and how it lies there."""
    if part == "unet":
        return [(f"{path}.weight", {})]
    bare = path.removeprefix(TEXT_MODEL)
    other = bare
    for ours, theirs in OPEN_CLIP.items():
        other = other.replace(ours, theirs)
    block, _, last = other.rpartition(".self_attn.")
    fused = [(f"{block}.attn.in_proj_weight", {"third": FUSED[last]})] if last in FUSED else []
    return [(f"{bare}.weight", {}), *fused, (f"{other}.weight", {}), (other, {"turned": True})]
