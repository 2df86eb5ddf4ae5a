"""The tensor names of adapter files for Stable Diffusion 1.x and 2.x.

Kohya's names (`lora_unet_...`, `lora_te_...`) are the ones that every client reads; they are the only ones written.
The reader also takes the names of diffusers and PEFT. SDXL has other block names and two text encoders, and is not
covered here.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal["unet", "text_encoder"]
Role = Literal["down", "up", "alpha"]

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"

_UNET, _TEXT, _TEXT_MODEL = "lora_unet_", "lora_te_", "text_model."
_ROLES: dict[str, Role] = {
    DOWN: "down",
    UP: "up",
    ALPHA: "alpha",
    ".lora_A.weight": "down",  # PEFT, and diffusers since 0.22
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",  # a PEFT state dict with the adapter's name left in
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",  # diffusers before that
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
}
_PROCESSOR = re.compile(r"\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$")  # the oldest form of diffusers


@dataclass(frozen=True)
class Matched:
    """The tensors of a file, resolved to the modules of a model.

    Attributes:
        modules: kohya name of a module -> (part, module path in that part); only modules with both halves.
        roles: tensor name -> (kohya name of its module, what it is there).
        unmatched: tensor names that no module takes; what they hold is not used.
    """

    modules: dict[str, tuple[Part, str]]
    roles: dict[str, tuple[str, Role]]
    unmatched: tuple[str, ...]


def unet_name(path: str) -> str:
    """Return the kohya name of a UNet module, given its path in diffusers."""
    return _UNET + path.replace(".", "_")


def text_encoder_name(path: str) -> str:
    """Return the kohya name of a text encoder module, given its path in transformers.

    The file always has `text_model_`; transformers 5 dropped it from the module paths, 4 has it.
    """
    return _TEXT + (_TEXT_MODEL + path.removeprefix(_TEXT_MODEL)).replace(".", "_")


def match(names: Iterable[str], unet_modules: Iterable[str], text_modules: Iterable[str]) -> Matched:
    """Resolve the tensor names of a file to the modules of a given model.

    Args:
        names: all tensor names of the file, in any of the forms known.
        unet_modules: paths of the UNet modules that can take an adapter.
        text_modules: the same for the text encoder, with or without `text_model.`.
    """
    targets: dict[str, tuple[Part, str]] = {unet_name(path): ("unet", path) for path in unet_modules}
    targets |= {text_encoder_name(path): ("text_encoder", path) for path in text_modules}
    roles: dict[str, tuple[str, Role]] = {}
    held: dict[tuple[str, Role], str] = {}
    unmatched = []
    for name in names:
        place = locate(name, targets.__contains__)
        if place is None or place in held:
            unmatched.append(name)
        else:
            roles[name] = place
            held[place] = name
    # Half a module has no effect, so its tensors are reported with the rest.
    complete = {module for module, _ in held if (module, "down") in held and (module, "up") in held}
    unmatched += [name for name, (module, _) in roles.items() if module not in complete]
    roles = {name: place for name, place in roles.items() if place[0] in complete}
    modules = {module: targets[module] for module in dict.fromkeys(module for module, _ in roles.values())}
    return Matched(modules, roles, tuple(unmatched))


def locate(name: str, known: Callable[[str], bool]) -> tuple[str, Role] | None:
    """Return (kohya name of the module, role) of one tensor, or None where nothing known takes it.

    Args:
        name: a tensor name in any of the forms known.
        known: whether there is a module of this kohya name.
    """
    found = split_name(name)
    if found is None:
        return None
    path, role = found
    return next(((candidate, role) for candidate in _candidates(path) if known(candidate)), None)


def split_name(name: str) -> tuple[str, Role] | None:
    """Return (what stands before the suffix, role) of a LoRA tensor's name, or None for any other name."""
    old = _PROCESSOR.search(name)
    if old:
        layer = "to_out.0" if old[1] == "out" else f"to_{old[1]}"
        return f"{name[: old.start()]}.{layer}", "down" if old[2] == "down" else "up"
    for suffix, role in _ROLES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), role
    return None


def _candidates(path: str) -> tuple[str, ...]:
    """Return the kohya names that the module part of a tensor name can mean."""
    for prefix in (_TEXT, "lora_te1_"):  # some trainers number the encoder though there is only one
        if path.startswith(prefix):
            return (text_encoder_name(path.removeprefix(prefix).removeprefix("text_model_")),)
    if path.startswith(_UNET):
        return (path,)
    bare = path.removeprefix("base_model.model.")
    if bare.startswith("unet."):
        return (unet_name(bare.removeprefix("unet.")),)
    if bare.startswith("text_encoder."):
        return (text_encoder_name(bare.removeprefix("text_encoder.")),)
    # PEFT saves a model by itself, without saying which it is; no path is in both.
    return unet_name(bare), text_encoder_name(bare)
