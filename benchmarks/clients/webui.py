"""AUTOMATIC1111's stable-diffusion-webui: its built-in extension Lora, over a model with the names of Stability's code.

`load_network` sorts a file's tensors into the modules of the model and notes the rest at debug level;
`network_apply_weights` changes a layer. The page around them is hollow here, and so is the model but for its layers:
their names are those of the checkpoints, which A1111's models have.
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, Shape, layers, plain, skeleton, stability_names
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora", "dora", "loha", "lokr", "oft")
# Products of LoHa, LoKr and OFT are made in the type of the file (network_hada.py, network_lokr.py, network_oft.py):
# rounded to fp16, they are this far from those made in float32.
TOLERANCE = 1e-2
_PAGE = ("gradio", "modules", "lora_patches")
_FAILED = "didn't match keys: "
_NAME = re.compile(r"'([^']+)':")
_LETTERS = "qkv"
_FUSED = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}


class WebUI:
    """See `Client`; the checkout is of AUTOMATIC1111/stable-diffusion-webui."""

    def __init__(self, checkout: Path, base: Base) -> None:
        stand_in(_PAGE, over=True)
        sys.path.insert(0, str(checkout / "extensions-builtin" / "Lora"))
        logging.getLogger().setLevel(logging.DEBUG)
        shared = importlib.import_module("modules.shared")
        shared.cmd_opts = SimpleNamespace(lora_dir=os.curdir, lyco_dir_backcompat=os.curdir)
        shared.walk_files = lambda *_, **__: []
        devices = importlib.import_module("modules.devices")
        devices.cpu, devices.dtype = torch.device("cpu"), torch.float32
        importlib.import_module("modules.sd_models").read_state_dict = load_file
        self.networks = importlib.import_module("networks")
        self.known: dict[tuple[int, str], tuple[Target, Shape]] = {}
        self.fused: dict[int, nn.Module] = {}  # out_proj of a fused attention, which is changed as a whole
        shared.sd_model = self._model(base)
        self.networks.assign_network_names_to_compvis_modules(shared.sd_model)

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        failed = _Failed()
        logging.getLogger().addHandler(failed)
        try:
            net = self.networks.load_network(file.stem, SimpleNamespace(filename=str(file)))
        finally:
            logging.getLogger().removeHandler(failed)
        self.networks.loaded_networks[:] = [net]
        taken = {}
        for key, module in net.modules.items():
            layer = self.fused.get(id(module.sd_module), module.sd_module)
            place = _place(key) if isinstance(layer, nn.MultiheadAttention) else ""
            target, published = self.known[id(layer), place]
            taken[target] = Applied(published, self._changing(layer, place))
        return Loaded(taken, tuple(failed.names))

    def _changing(self, layer: Any, place: str) -> Callable[[Tensor], Tensor]:
        def change(weight: Tensor) -> Tensor:
            self.networks.extra_network_lora = SimpleNamespace(errors={})
            _give(layer, weight)
            self.networks.network_apply_weights(layer)
            for name in [name for name in vars(layer) if name.startswith("network_") and name != "network_layer_name"]:
                delattr(layer, name)
            if self.networks.extra_network_lora.errors:
                raise ValueError(f"A1111 counted an error at {layer.network_layer_name}")
            return _taken(layer, place)

        return change

    def _model(self, base: Base) -> Any:
        parts = skeleton(base.family)
        unet = parts.pop("unet")
        shapes = {path: tuple(layer.weight.shape) for path, layer in layers(unet)}
        rows = self._layers(base, "unet", stability_names(unet), shapes, "diffusion_model.")
        model = SimpleNamespace(model=_tree(rows))
        encoders = [SimpleNamespace(wrapped=self._encoder(base, part, root)) for part, root in parts.items()]
        model.is_sdxl = base.family == "sdxl"
        model.conditioner, model.cond_stage_model = SimpleNamespace(embedders=encoders), encoders[0]
        return model

    def _layers(
        self, base: Base, part: str, rows: dict[str, str], shapes: dict[str, Shape], before: str
    ) -> Iterable[tuple[str, nn.Module]]:
        """(name in A1111, a layer of that size) of each; it is noted which of ours it is."""
        for name, path in rows.items():
            layer = _layer(base.shape(shapes[path]), shapes[path])
            self.known[id(layer), ""] = plain(Target(part, path)), shapes[path]
            yield before + name, layer

    def _encoder(self, base: Base, part: str, root: nn.Module) -> nn.Module:
        """CLIP as transformers has it, or OpenCLIP with its fused attention."""
        shapes = {path.removeprefix("text_model."): tuple(layer.weight.shape) for path, layer in layers(root)}
        inside = {path for path in shapes if path.startswith("encoder.")}
        if part == "text_encoder" and base.family != "sd2":
            rows = {path: path for path in inside}
            return _tree(self._layers(base, part, rows, shapes, "transformer.text_model."))
        rows = {
            _open_clip(path): path for path in inside if path.endswith((".fc1", ".fc2"))
        }  # attention's four are one module
        found = dict(self._layers(base, part, rows, shapes, "model."))
        for path in sorted(path for path in inside if path.endswith(".q_proj")):
            stem, shape = path.removesuffix(".q_proj"), shapes[path]
            fused = nn.MultiheadAttention(base.shape(shape)[0], 1, bias=False)
            found[f"model.{_open_clip(stem)}"] = self.fused[id(fused.out_proj)] = fused
            self.known |= {
                (id(fused), letter): (Target(part, f"{stem}.{name}"), shape) for name, letter in _FUSED.items()
            }
        return _tree(found.items())


class _Failed(logging.Handler):
    """Catches the names that A1111 found no module for."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note them."""
        _, found, names = record.getMessage().partition(_FAILED)
        if found:
            self.names += _NAME.findall(names)


def _tree(rows: Iterable[tuple[str, nn.Module]]) -> nn.Module:
    """Modules under dotted names."""
    root = nn.Module()
    for name, layer in rows:
        at = root
        *way, last = name.split(".")
        for step in way:
            if not hasattr(at, step):
                at.add_module(step, nn.Module())
            at = getattr(at, step)
        at.add_module(last, layer)
    return root


def _layer(shape: Shape, published: Shape) -> nn.Module:
    outer, inner, *kernel = shape
    with torch.device("meta"):
        if not kernel:
            return nn.Linear(inner, outer, bias=False)
        return nn.Conv2d(inner, outer, tuple(kernel), padding=kernel[0] // 2, bias=False)


def _open_clip(path: str) -> str:
    swapped = path.replace("encoder.layers.", "transformer.resblocks.").replace("self_attn", "attn")
    return swapped.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")


def _place(key: str) -> str:
    return next(letter for name, letter in _FUSED.items() if key.endswith(f"_{name}"))


def _give(layer: Any, weight: Tensor) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        layer.in_proj_weight = nn.Parameter(weight.repeat(3, 1), False)
        layer.out_proj.weight = nn.Parameter(weight.clone(), False)
    else:
        layer.weight = nn.Parameter(weight.clone(), False)


def _taken(layer: Any, place: str) -> Tensor:
    if not isinstance(layer, nn.MultiheadAttention):
        return layer.weight.data
    if place == "out":
        return layer.out_proj.weight.data
    return layer.in_proj_weight.data.chunk(3)[_LETTERS.index(place)]
