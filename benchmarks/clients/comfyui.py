"""ComfyUI's own code: the models that it builds, the names that it knows for them, and its arithmetic.

Read in comfy/lora.py: `model_lora_keys_unet` and `model_lora_keys_clip` map names to weights, `load_lora` sorts a
file's tensors into patches and logs the names that are left, `calculate_weight` applies a patch.
"""

import importlib
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, Shape, plain, skeleton
from benchmarks.clients.shims import stand_in
from trainer.protocols import Target

METHODS = ("lora", "dora", "loha", "lokr", "oft")
TOLERANCE = 1e-5
MISSING = ("torchvision", "torchsde", "torchaudio", "cv2", "av", "spandrel", "kornia", "comfy_kitchen", "comfy_aimdo")
_LOST = "lora key not loaded: "
_ENCODERS = {"clip_l": "text_encoder", "clip_h": "text_encoder", "clip_g": "text_encoder_2"}


class ComfyUI:
    """See `Client`.

    Args:
        checkout: of Comfy-Org/ComfyUI.
        base: its layers' sizes; ComfyUI's own model is built in full size, without memory.
    """

    def __init__(self, checkout: Path, base: Base) -> None:
        self.lora = _import(checkout)
        self.base = base
        self.shapes, self.names, self.places = _open(base.family)

    def load(self, file: Path) -> Loaded:
        """See `Client`."""
        tensors, left = load_file(file), _Left()
        logging.getLogger().addHandler(left)
        try:
            patches = self.lora.load_lora(sys.modules["comfy.lora_convert"].convert_lora(tensors), self.names)
        finally:
            logging.getLogger().removeHandler(left)
        return Loaded(
            {self.places[key]: self._applied(key, patch) for key, patch in patches.items()}, tuple(left.names)
        )

    def _applied(self, key: str, patch: Any) -> Applied:
        def change(weight: Tensor) -> Tensor:
            return self.lora.calculate_weight([(1.0, patch, 1.0, None, None)], weight.clone(), key)

        return Applied(self.shapes[key], change)


class _Left(logging.Handler):
    """Catches the names that ComfyUI says it did not load, and whatever else it warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self.names.append(record.getMessage().removeprefix(_LOST))


def _import(checkout: Path) -> Any:
    """Import comfy.lora for the CPU."""
    stand_in(MISSING)
    sys.path.insert(0, str(checkout))
    sys.argv = [sys.argv[0], "--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.lora_convert")
    return importlib.import_module("comfy.lora")


def _open(family: str) -> tuple[dict[str, Shape], dict[str, str], dict[str, Target]]:
    """Shape of each weight, name in a file -> weight, weight -> layer of diffusers and transformers."""
    detection, ops, unet_model = map(
        importlib.import_module,
        ("comfy.model_detection", "comfy.ops", "comfy.ldm.modules.diffusionmodules.openaimodel"),
    )
    config = detection.model_config_from_diffusers_unet(skeleton(family)["unet"].state_dict())
    unet = unet_model.UNetModel(**config.unet_config, device="meta", operations=ops.disable_weight_init)
    model = _Held({f"diffusion_model.{name}": value for name, value in unet.state_dict().items()})
    model.model_config = SimpleNamespace(unet_config=config.unet_config)
    text = config.clip_target({}).clip(device="meta", dtype=torch.float32)
    lora = sys.modules["comfy.lora"]
    names = lora.model_lora_keys_clip(text, lora.model_lora_keys_unet(model, {}))
    known = importlib.import_module("comfy.utils").unet_to_diffusers(config.unet_config)
    places = {f"diffusion_model.{key}": Target("unet", name.removesuffix(".weight")) for name, key in known.items()}
    for key in text.state_dict():
        encoder, _, path = key.partition(".transformer.")
        places[key] = plain(Target(_ENCODERS.get(encoder, encoder), path.removesuffix(".weight")))
    tensors = {**model.state_dict(), **text.state_dict()}
    return {key: tuple(value.shape) for key, value in tensors.items()}, names, places


class _Held(nn.Module):
    """What `model_lora_keys_unet` asks of a model: its names, and its config."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """The names and shapes."""
        return self.tensors
