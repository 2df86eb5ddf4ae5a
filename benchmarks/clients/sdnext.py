"""SD.Next: its own loader, which it uses for Stable Diffusion as installed, over the models of diffusers.

`load_safetensors` sorts a file's tensors into the modules of a pipeline, `network_calc_weights` computes a layer's
update and `network_add_weights` adds it. Text encoders are applied as with "LoRA native apply to text encoder" on.
"""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, layers, plain, shrink, skeleton
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora", "dora", "loha", "lokr", "oft")
TOLERANCE = 1e-5
_PAGE = tuple(
    f"modules.{name}"
    for name in (
        "shared", "errors", "sd_models", "sd_models_compile", "sd_checkpoint", "files_cache", "logger", "hashes",
        "devices", "errorlimiter",
    )
)  # fmt: skip
_NAME = re.compile(r"'([^']+)':")
_UNMATCHED, _EMPTY = " unmatched={", "LoRA unhandled: "


class SdNext:
    """See `Client`; the checkout is of vladmandic/sdnext."""

    def __init__(self, checkout: Path, base: Base) -> None:
        stand_in(_PAGE, over=True)
        sys.path.insert(0, str(checkout))
        self.log = _Log()
        importlib.import_module("modules.logger").log = self.log
        devices = importlib.import_module("modules.devices")
        devices.cpu = devices.device = torch.device("cpu")
        importlib.import_module("modules.sd_models").read_state_dict = lambda file, what: load_file(file)
        self.shared = importlib.import_module("modules.shared")
        self.known, pipe = _pipeline(base)
        self.shared.sd_model, self.shared.sd_loaded = pipe, True
        self.shared.sd_model_type = "sdxl" if base.family == "sdxl" else "sd"
        self.shared.opts = SimpleNamespace(
            lora_fuse_native=True, lora_fuse_diffusers=True, diffusers_offload_mode="model",
            extra_networks_default_multiplier=1.0,
        )  # fmt: skip
        self.common = importlib.import_module("modules.lora.lora_common")
        self.common.extra_network_lora = SimpleNamespace(errors={})
        self.loader = importlib.import_module("modules.lora.lora_load")
        self.common.debug = True  # so that the names that are left are said, not only counted
        self.apply = importlib.import_module("modules.lora.lora_apply")

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        self.log.said.clear()
        self.loader.lora_cache.clear()
        net = self.loader.load_safetensors(file.stem, SimpleNamespace(filename=str(file)))
        net.te_multiplier, net.unet_multiplier = 1.0, [1.0] * 3
        self.common.loaded_networks[:] = [net]
        left = [line.partition(_UNMATCHED)[2] for line in self.log.said if _UNMATCHED in line]
        names = [name for line in left for name in _NAME.findall(line)]
        taken = {}
        for key, module in net.modules.items():
            target, published = self.known[id(module.sd_module)]
            taken[target] = Applied(published, self._changing(module.sd_module, key))
        return Loaded(taken, (*names, *(line for line in self.log.said if _EMPTY in line)))

    def _changing(self, layer: nn.Module, key: str) -> Any:
        def change(weight: Tensor) -> Tensor:
            held, layer.weight = layer.weight, nn.Parameter(weight.clone(), False)
            self.log.said.clear()
            update, _ = self.apply.network_calc_weights(layer, key)
            self.apply.network_add_weights(layer, lora_weights=update, device=torch.device("cpu"))
            changed, layer.weight = layer.weight.data, held
            if update is None or self.log.said:
                raise ValueError(f"SD.Next has no update of {key}: {self.log.said}")
            return changed

        return change


class _Log:
    """Keeps whatever is logged."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def error(self, line: str, *_: Any) -> None:
        """Keep it."""
        self.said.append(str(line))

    debug = warning = info = trace = critical = error


def _pipeline(base: Base) -> tuple[dict[int, Any], Any]:
    """Which layer of ours each is, and a pipeline of them."""
    parts, known = skeleton(base.family), {}
    for part, root in parts.items():
        known |= {id(one): (plain(Target(part, path)), tuple(one.weight.shape)) for path, one in layers(root)}
        shrink(root, base)
    return known, SimpleNamespace(**parts)
