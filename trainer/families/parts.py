"""The parts of a base as modules: made without memory, and given the tensors that were read as they are."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainer.contract.errors import UserError
from trainer.families.text_encoder import TextEncoder

Weights = dict[str, Tensor]
CPU = torch.device("cpu")
INCOMPLETE = "Get a complete copy of the model."

MAKERS: Mapping[str, Callable[[dict[str, Any]], nn.Module]] = {
    "unet": UNet2DConditionModel.from_config,
    "vae": AutoencoderKL.from_config,
    "text_encoder": partial(TextEncoder, projected=False),
    "text_encoder_2": partial(TextEncoder, projected=True),
}

# The attention in the middle of a VAE, as diffusers named it until 0.15.
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


def read_tensors(
    path: Path, names: Mapping[str, str] | None, dtype: torch.dtype, device: torch.device = CPU
) -> Weights:
    """Read tensors by the names they shall have -> names in the file; no others are read. All of them for None.

    They are copies: the file may be replaced while they are in use. Another number type is made on the device.
    """
    with safe_open(path, "pt") as file:
        wanted = dict.fromkeys(file.keys()) if names is None else names
        return {short: _brought(file.get_tensor(name or short), dtype, device) for short, name in wanted.items()}


def _brought(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(dtype, copy=True) if device.type == "cpu" else tensor.to(device).to(dtype)


def modern(weights: Mapping[str, Tensor]) -> Weights:
    """A VAE's tensors under diffusers' names of any age -> of today."""
    return {_OLD_ATTENTION.sub(lambda match: _NEW_ATTENTION[match[1]], name): at for name, at in weights.items()}


class Uninitialised(TorchFunctionMode):
    """Within this, weights get no first values; without memory torch would load its compiler to draw them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def hollow(part: str, config: dict[str, Any]) -> nn.Module:
    """A part's modules, their weights without memory; for the arguments see `build`."""
    with torch.device("meta"), Uninitialised():
        return MAKERS[part](config)


def build(part: str, config: dict[str, Any], weights: Mapping[str, Tensor], where: str) -> nn.Module:
    """Make a part of its tensors: frozen, in evaluation mode, on the device where they are.

    Args:
        part: `unet`, `vae`, `text_encoder` or `text_encoder_2`.
        config: of diffusers, or of transformers for a text encoder.
        weights: under the names that files have in diffusers' folders; `text_model.` may be left out.
        where: they come from, for errors.

    Raises:
        UserError: a weight is missing, is of another shape, or has no place in the UNet.
    """
    model = hollow(part, config)
    found = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(f"{len(missing)} weights are missing, first {missing[0]}", where, INCOMPLETE)
    if part == "unet" and (strange := sorted(found.keys() - expected.keys())):
        refuse_strange(strange[0], where)
    for name, shape in expected.items():
        if found[name].shape != shape:
            problem = f"{name} in the {part} has sizes {tuple(found[name].shape)}, not {tuple(shape)}"
            raise UserError(problem, where, INCOMPLETE)
    model.load_state_dict({name: found[name] for name in expected}, assign=True)
    return model.requires_grad_(False).eval()


def refuse_strange(what: str, where: str) -> None:
    """Raise UserError: leaving out a part of a UNet would train another model than the file is."""
    problem = f"the UNet holds more than a Stable Diffusion's: {what} would be left out"
    raise UserError(problem, where, "Give the model it was made from.")
