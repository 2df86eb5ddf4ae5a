"""InvokeAI: how it tells a file's base, and its patches over the models of diffusers and transformers 4.

`lora_token_vector_length` is what the base is told by, `lora_model_from_sd_state_dict` sorts a file's tensors into
patches and `apply_smart_model_patch` applies one to the layer that it finds under its name.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, Rooted, layers, plain, shrink, skeleton
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora", "dora", "loha", "lokr")
TOLERANCE = 1e-5
_ROUND = ("invokeai.app", "invokeai.backend.util", "invokeai.backend.model_manager", "invokeai.backend.quantization",
          "picklescan")  # fmt: skip
_PREFIXES = {"text_encoder": ("lora_te_", "lora_te1_"), "text_encoder_2": ("", "lora_te2_")}
_WIDTHS = {"sd1": (768,), "sd2": (1024,), "sdxl": (1280, 2048)}


class Invoke:
    """See `Client`; the checkout is of invoke-ai/InvokeAI."""

    def __init__(self, checkout: Path, base: Base) -> None:
        self.base, self.said = base, _Said()
        self.patcher = _import(checkout, self.said)
        self.width = _probe(checkout)
        self.convert, self.sort = (
            getattr(importlib.import_module(f"invokeai.backend.patches.lora_conversions.{module}"), name)
            for module, name in (
                ("sdxl_lora_conversion_utils", "convert_sdxl_keys_to_diffusers_format"),
                ("sd_lora_conversion_utils", "lora_model_from_sd_state_dict"),
            )
        )
        self.known, self.roots = {}, {}
        for part, root in skeleton(base.family).items():
            prefix = "lora_unet_" if part == "unet" else _PREFIXES[part][base.family == "sdxl"]
            self.roots[prefix] = held = root if part == "unet" else Rooted(root)
            self.known |= {id(one): (plain(Target(part, path)), tuple(one.weight.shape)) for path, one in layers(held)}
            shrink(held, base)

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        self.said.lines.clear()
        tensors = load_file(file)
        self._tell(tensors)
        patches = self.sort(self.convert(tensors) if self.base.family == "sdxl" else tensors).layers
        taken, left = {}, [key for key in patches if not key.startswith(tuple(self.roots))]
        for prefix, root in self.roots.items():
            for key, patch in patches.items():
                if key.startswith(prefix):
                    try:
                        path, layer = self.patcher._get_submodule(root, key.removeprefix(prefix), True)
                    except AttributeError:
                        left.append(key)
                        continue
                    target, published = self.known[id(layer)]
                    taken[target] = Applied(published, self._changing(path, layer, patch))
        return Loaded(taken, (*left, *self.said.lines))

    def _tell(self, tensors: dict[str, Tensor]) -> None:
        found = self.width(tensors)
        wanted = [self.base.shape((width,))[0] for width in _WIDTHS[self.base.family]]
        if found not in wanted:
            raise ValueError(f"Invoke reads a width of {found}, and this base has one of {wanted}")

    def _changing(self, path: str, layer: nn.Module, patch: Any) -> Any:
        def change(weight: Tensor) -> Tensor:
            held, layer.weight, layer.bias = layer.weight, nn.Parameter(weight.clone(), False), None
            self.said.lines.clear()
            self.patcher._apply_model_layer_patch(
                module_to_patch=layer, module_to_patch_key=path, patch=patch, patch_weight=1.0,
                original_weights=SimpleNamespace(save=lambda *_: None),
            )  # fmt: skip
            changed, layer.weight = layer.weight.data, held
            if self.said.lines:
                raise ValueError(f"Invoke warns at {path}: {self.said.lines}")
            return changed

        return change


class _Said:
    """Keeps what is warned of."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def get_logger(self, *_: Any) -> "_Said":
        """Itself, whoever asks."""
        return self

    def warning(self, line: str, *given: Any) -> None:
        """Keep it."""
        self.lines.append(line % given if given else line)


def _import(checkout: Path, said: _Said) -> Any:
    """Import the patcher; what it has from the rest of InvokeAI is a logger, devices and a cast to one."""
    stand_in(_ROUND, over=True)
    sys.path.insert(0, str(checkout))
    util = importlib.import_module("invokeai.backend.util")
    util.InvokeAILogger, util.logging = said, said
    sys.modules["invokeai.backend.util.logging"] = said  # type: ignore[assignment]
    said.InvokeAILogger = said  # type: ignore[attr-defined]
    devices = importlib.import_module("invokeai.backend.util.devices")
    devices.TorchDevice = SimpleNamespace(CPU_DEVICE=torch.device("cpu"))
    cast = "invokeai.backend.model_manager.load.model_cache.torch_module_autocast.cast_to_device"
    importlib.import_module(cast).cast_to_device = lambda tensor, device: tensor.to(device)
    importlib.import_module("invokeai.backend.util.fp8").FP8_STORAGE_DTYPES = ()
    return importlib.import_module("invokeai.backend.patches.layer_patcher").LayerPatcher


def _probe(checkout: Path) -> Any:
    """The function that reads the width of a file's base, from a module whose package is hollow here."""
    path = checkout / "invokeai" / "backend" / "model_manager" / "util" / "model_util.py"
    spec = importlib.util.spec_from_file_location("invoke_model_util", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lora_token_vector_length
