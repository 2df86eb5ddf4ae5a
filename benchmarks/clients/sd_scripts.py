"""kohya's sd-scripts: networks/lora.py with the UNets of its library, as its merging and its generation use it.

`create_network_from_weights` makes a module for each layer that the file names, `load_state_dict` says which names are
left, and a module's `merge_to` changes its layer's weight.
"""

import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, Rooted, layers, plain, shrink, skeleton
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora",)  # networks/lora.py; the other methods are LyCORIS' there as well
TOLERANCE = 1e-5
MISSING = ("torchvision", "cv2", "imagesize", "toml", "voluptuous", "bitsandbytes")


class SdScripts:
    """See `Client`; the checkout is of kohya-ss/sd-scripts."""

    def __init__(self, checkout: Path, base: Base) -> None:
        stand_in(MISSING)
        sys.path.insert(0, str(checkout))
        self.network = importlib.import_module("networks.lora")
        logging.disable(logging.INFO)
        self.base = base
        self.unet = _unet(base.family)
        shapes = {path: tuple(layer.weight.shape) for path, layer in layers(self.unet)}
        places = _places(base.family, shapes)
        self.known = {id(layer): (places[path], shapes[path]) for path, layer in layers(self.unet)}
        shrink(self.unet, base)
        self.texts = []
        for part, root in skeleton(base.family).items():
            if part != "unet":
                self.texts.append(Rooted(root))
                rows = layers(self.texts[-1])
                self.known |= {id(one): (plain(Target(part, path)), tuple(one.weight.shape)) for path, one in rows}
                shrink(self.texts[-1], base)

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        texts = self.texts if len(self.texts) > 1 else self.texts[0]
        network, tensors = self.network.create_network_from_weights(
            1.0, None, None, texts, self.unet, weights_sd=load_file(file), for_inference=True
        )
        modules = network.text_encoder_loras + network.unet_loras
        for one in modules:
            network.add_module(one.lora_name, one)
        found = network.load_state_dict(tensors, False)
        # `apply_to`, which generation calls, takes the base's layers out of the network.
        missing = [name for name in found.missing_keys if ".org_module." not in name]
        taken = {}
        for one in modules:
            target, published = self.known[id(one.org_module)]
            taken[target] = Applied(published, _merging(one, tensors))
        return Loaded(taken, (*found.unexpected_keys, *missing))


def _merging(module: Any, tensors: dict[str, Tensor]) -> Any:
    own = {
        name.removeprefix(f"{module.lora_name}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{module.lora_name}.")
    }

    def change(weight: Tensor) -> Tensor:
        layer = module.org_module
        held, layer.weight = layer.weight, nn.Parameter(weight.clone(), False)
        if layer.bias is not None and layer.bias.is_meta:
            layer.bias = None
        module.merge_to(own, torch.float32, "cpu")
        changed, layer.weight = layer.weight.data, held
        return changed

    return change


def _unet(family: str) -> nn.Module:
    """The library's own class, without memory."""
    with torch.device("meta"):
        if family == "sdxl":
            return importlib.import_module("library.sdxl_original_unet").SdxlUNet2DConditionModel()
        wide = family == "sd2"
        return importlib.import_module("library.original_unet").UNet2DConditionModel(
            sample_size=64,
            attention_head_dim=[5, 10, 20, 20] if wide else 8,
            cross_attention_dim=1024 if wide else 768,
            use_linear_projection=wide,
        )


def _places(family: str, paths: Any) -> dict[str, Target]:
    """Path in kohya's UNet -> layer of diffusers; kohya's table for SDXL, the same names otherwise."""
    if family != "sdxl":
        return {path: Target("unet", path) for path in paths}
    rows = importlib.import_module("library.sdxl_model_util").make_unet_conversion_map()
    return {path: Target("unet", _renamed(path, rows)) for path in paths}


def _renamed(path: str, rows: Any) -> str:
    theirs, ours = next((row for row in rows if f"{path}.".startswith(row[0])), ("", ""))
    return f"{ours}{f'{path}.'.removeprefix(theirs)}".rstrip(".")
