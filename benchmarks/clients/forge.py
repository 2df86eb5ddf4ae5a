"""Forge: its built-in extension for adapters, over a model with the names of Stability's code.

`load_lora_for_models` sorts a file's tensors into patches, and loads nothing where more than 12 are left;
`merge_lora_to_weight` applies a patch. The page around them is hollow here, and so is the model but for its names.
"""

import ast
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, Rooted, Shape, layers, plain, skeleton, stability_names
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora", "dora", "loha", "lokr")
TOLERANCE = 1e-5
_PAGE, _MISSING = ("gradio", "modules"), ("sentencepiece", "yaml")
_LEFT = " with unmatched keys "
_ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}
# What Forge's detection of a checkpoint finds, of which the table of names is made; that is another repository.
_FOUR = {
    "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1,
}  # fmt: skip
_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "sd1": _FOUR,
    "sd2": _FOUR,
    "sdxl": {
        "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10,
    },
}  # fmt: skip


class Forge:
    """See `Client`; the checkout is of lllyasviel/stable-diffusion-webui-forge."""

    def __init__(self, checkout: Path, base: Base) -> None:
        self.networks, self.family = _import(checkout), base.family
        names = importlib.import_module("packages_3rdparty.comfyui_lora_collection.utils")
        known = names.unet_to_diffusers({**_CONFIGS[base.family]})
        self.places = {f"diffusion_model.{key}": Target("unet", _layer(name)) for name, key in known.items()}
        parts = skeleton(base.family)
        unet = parts.pop("unet")
        paths = {f"diffusion_model.{name}.weight": path for name, path in stability_names(unet).items()}
        self.shapes = {key: tuple(unet.get_submodule(path).weight.shape) for key, path in paths.items()}
        self.texts: dict[str, Shape] = {}
        for encoder, (part, root) in zip(_ENCODERS[base.family], parts.items(), strict=True):
            for path, layer in layers(Rooted(root)):
                key = f"{encoder}.transformer.{path}.weight"
                self.texts[key] = tuple(layer.weight.shape)
                self.places[key] = plain(Target(part, path))

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        tensors, said = self.networks.load_lora_state_dict(str(file)), io.StringIO()
        config = SimpleNamespace(huggingface_repo="")
        inner = SimpleNamespace(config={**_CONFIGS[self.family]})
        unet = _Patched(SimpleNamespace(state_dict=lambda: self.shapes, config=config, diffusion_model=inner))
        text = _Patched(SimpleNamespace(state_dict=lambda: self.texts))
        with contextlib.redirect_stdout(said):
            self.networks.load_lora_for_models(unet, text, tensors, 1.0, 1.0, filename=file.name)
        if "mismatch" in said.getvalue().lower():
            raise ValueError(said.getvalue())
        left = [line.partition(_LEFT)[2] for line in said.getvalue().splitlines() if _LEFT in line]
        shapes = {**self.shapes, **self.texts}
        taken = {
            self.places[key]: Applied(shapes[key], self._changing(key, patch))
            for key, patch in {**unet.patches, **text.patches}.items()
        }
        return Loaded(taken, tuple(name for line in left for name in ast.literal_eval(line)))

    def _changing(self, key: str, patch: Any) -> Any:
        merge = sys.modules["backend.patcher.lora"].merge_lora_to_weight
        return lambda weight: merge([(1.0, patch, 1.0, None, None)], weight, key, torch.float32)


class _Patched:
    """What `load_lora_for_models` asks of a model and of text encoders: a copy, to which patches are added."""

    def __init__(self, held: Any) -> None:
        self.model = self.cond_stage_model = held
        self.patches: dict[str, Any] = {}

    def clone(self) -> "_Patched":
        """The same: it is used once."""
        return self

    def add_patches(self, *, patches: Mapping[str, Any], **_: Any) -> list[str]:
        """Keep them, and say for which weights there are any."""
        self.patches = {key: patch for key, patch in patches.items() if key in self.model.state_dict()}
        return list(self.patches)


def _layer(name: str) -> str:
    return name.removesuffix(".weight")


def _import(checkout: Path) -> Any:
    """Import the extension for the CPU."""
    stand_in(_PAGE, over=True)
    stand_in(_MISSING)
    for folder in ("", "packages_3rdparty", "extensions-builtin/sd_forge_lora"):
        sys.path.insert(0, str(checkout / folder))
    sys.argv = [sys.argv[0], "--always-cpu"]
    shared = importlib.import_module("modules.shared")
    shared.cmd_opts, shared.walk_files = SimpleNamespace(lora_dir=os.curdir), lambda *_, **__: []
    return importlib.import_module("networks")
