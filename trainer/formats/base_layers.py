"""The layers of bases, without loading one: what an adapter file is held against where no model is at hand."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.formats.bases import describe_base, find_base
from trainer.formats.clients.models import TITLES, Model, build, model_of
from trainer.formats.fit import Fit, fit
from trainer.formats.header import TensorInfo, read_header
from trainer.formats.kinds import Shape
from trainer.formats.kohya import Module
from trainer.formats.names import split_names

PRACTICE = "LoRA Atelier practice base"
PARTS = ("unet", "text_encoder", "text_encoder_2")
_TABLES = "embedding.weight"  # of tokens and positions, which are no layers; of a UNet's timestep they end otherwise


@cache
def published_layers(family: str) -> Mapping[Module, Shape]:
    """(part, path) -> shape of the weight, of the published base of a family: "sd1", "sd2", "sdxl"."""
    return {(layer.part, layer.path): layer.shape for layer in model_of(family).layers}


def folder_layers(folder: Path) -> dict[Module, Shape]:
    """The same of a diffusers folder, from the headers of its files.

    Raises:
        UserError: a file in it is no sound safetensors.
    """
    return {
        (part, name.removesuffix(".weight")): info.shape
        for part in PARTS
        for file in sorted((folder / part).glob("*.safetensors"))
        for name, info in read_header(file).tensors.items()
        if name.endswith(".weight") and not name.endswith(_TABLES)
    }


class Given(NamedTuple):
    """A base that a file is held against.

    Attributes:
        name: as it was given.
        family: in the catalogue: "sd1", "sd2", "sdxl".
        practice: whether it is the embedded one.
        layers: (part, path) -> shape of the weight.
    """

    name: str
    family: str
    practice: bool
    layers: Mapping[Module, Shape]

    @property
    def model(self) -> Model:
        """The same as clients see it."""
        parts: dict[str, dict[str, Shape]] = {}
        for (part, path), shape in self.layers.items():
            bare = part != "unet" and not path.startswith(("text_model.", "text_projection"))  # as transformers 5 saves
            parts.setdefault(part, {})[f"text_model.{path}" if bare else path] = shape
        return build(self.family, parts, model_of(self.family).fused)


def given_base(base: str) -> Given:
    """Look at a base: nothing of it is loaded or fetched.

    Raises:
        UserError: there is no such base on this machine, or it is none that can be used.
    """
    path = find_base(base)
    if path is None:
        fix = "Give its folder or its file; a training or a picture made with it fetches it."
        raise UserError(f"'{base}' is on the Hub, and only what is on this machine can be looked at", "--base", fix)
    facts = describe_base(path)
    practice = path == demo_folder() / "base"
    layers = published_layers(facts.family) if path.is_file() else folder_layers(path)
    return Given(PRACTICE if practice else base, facts.family, practice, layers)


@cache
def practice_layers() -> Mapping[Module, Shape]:
    """The same of the embedded base."""
    return folder_layers(demo_folder() / "base")


def closest_fit(infos: Mapping[str, TensorInfo], practice: bool, said: str = "") -> Fit:
    """Hold a file against the base whose layers take most of its modules.

    Args:
        infos: the file's tensors.
        practice: whether it says that it was trained on the embedded base.
        said: family that it says it is for; it decides where several take as many.
    """
    if practice:
        return fit(infos, practice_layers(), PRACTICE)
    order = sorted(TITLES, key=lambda family: family != said)
    split = split_names(infos)
    fits = [fit(infos, published_layers(family), TITLES[family], split) for family in order]
    return max(fits, key=lambda found: len(found.matched))
