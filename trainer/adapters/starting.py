"""Training on from an adapter file: its matrices as the start of a new run's."""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.adapters.foreign import NAMES, alpha_of
from trainer.adapters.merged import MergedLayer
from trainer.adapters.tensors import read_finite
from trainer.contract.catalog import ADAPTERS
from trainer.contract.errors import UserError
from trainer.formats.header import Header, open_tensors, read_header, shown
from trainer.formats.kinds import LENGTHS, READABLE, ROWS, kind_of, title_of
from trainer.formats.kohya import match
from trainer.formats.names import split_names
from trainer.protocols import Target

SETTING = "adapter.start"
NAMED = 3  # layers that a sentence names; of the rest it says how many
READ_ONLY = {"mid", "oft_diag", "oft_R", "hada_t1", "hada_t2", "lokr_t2", ROWS, "up_bias", "diff_b"}  # not trained here
GROWS = {"A": 0, "B": 1, "lora_down.weight": 0, "lora_up.weight": 1}  # slot -> the side that is the rank
Held = Mapping[str, Tensor]  # by role, see `trainer.formats.kohya`


def check_start(path: Path, method: str) -> None:
    """Refuse a file that a run of a method cannot go on from, by its header alone.

    Raises:
        UserError: no safetensors file, or one of another method.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", SETTING, "Give the path of a .safetensors file.")
    kinds = _kinds(read_header(path).tensors)
    if not kinds:
        raise UserError(f"there is no adapter in {path.name}", SETTING, "See what it holds: atelier inspect.")
    if kinds != {method}:
        found = ", ".join(sorted(kinds))
        fix = f"Set adapter.method={found}." if found in ADAPTERS else "Such files can be drawn with, not trained on."
        raise UserError(f"{path.name} is a {found} file, and this run trains {method}", SETTING, fix)


def _kinds(names: Iterable[str]) -> set[str]:
    """The methods that a file's modules are of; what is only read here by the name that people call it."""
    modules: dict[str, set[str]] = {}
    for found in split_names(names).values():
        if found is not None:
            modules.setdefault(found[0], set()).add(found[1])
    return {_method(roles) for roles in modules.values() if kind_of(roles)}


def _method(roles: set[str]) -> str:
    kind = kind_of(roles)
    name = kind.name if kind else ""
    if name == "lora" and LENGTHS in roles and not roles & READ_ONLY:
        return "dora"
    if extra := sorted(roles & READ_ONLY):
        return f"{title_of(roles)} with {', '.join(extra)}"
    return title_of(roles) if LENGTHS in roles or name not in ADAPTERS else name


@torch.no_grad()
def start_from(path: Path, adapter: Adapter, layout: Mapping[str, Collection[str]]) -> list[str]:
    """Copy a file's matrices into a new adapter; return a sentence for each kind of layer that only one of them has.

    A larger rank is filled up: what is added has a random A and a zero B, so the effect is the file's. Where the scale
    differs, B makes up for it.

    Args:
        path: checked by `check_start`.
        adapter: as it was attached.
        layout: module paths of the model's parts.

    Raises:
        UserError: a layer is of a larger rank than the new one, or of other sizes; or nothing fits.
    """
    held: dict[Target, dict[str, Tensor]] = {}
    with open_tensors(path) as (file, header):
        matched = match(header.tensors, layout)
        for name, tensor in read_finite(file, header, _readable(header, matched.roles)):
            stem, role = matched.roles[name]
            held.setdefault(Target(*matched.modules[stem]), {})[role] = tensor
    both = [target for target in adapter.layers if target in held]
    if not both:
        raise UserError(f"no layer of {path.name} is trained by this run", SETTING, "Choose its base and its targets.")
    for target in both:
        _fill(adapter, target, held[target])
    adapter.arena.publish()
    strange = [*matched.unmatched, *(str(target) for target in held if target not in adapter.layers)]
    fresh = [str(target) for target in adapter.layers if target not in held]
    return [
        *_named(strange, f"in {path.name} have no trained layer here and are left out"),
        *_named(fresh, f"are not in {path.name} and start from nothing"),
    ]


def _readable(header: Header, names: Iterable[str]) -> list[str]:
    """The names, all of numbers that can be read. Raises UserError."""
    for name in names:
        info = header.tensors[name]
        if info.dtype not in READABLE or not math.prod(info.shape):
            problem = f"{shown(name)} is of {shown(info.dtype)} numbers in the shape {info.shape}"
            raise UserError(problem, SETTING, "Export the file again as fp16 or fp32.")
    return list(names)


def _named(names: list[str], what: str) -> list[str]:
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return [f"{len(names)} layers or tensors {what}: {shown}"] if names else []


def _fill(adapter: Adapter, target: Target, held: Held) -> None:
    layer = adapter.layers[target]
    if isinstance(layer, MergedLayer):
        _fill_merged(adapter, target, layer, held)
        return
    rank = len(held["down"])
    scale = float(held["alpha"]) / rank if "alpha" in held else 1.0
    _copy(adapter, target, "A", held["down"])
    _copy(adapter, target, "B", held["up"] * (scale / adapter.sizes[target].scale))


def _fill_merged(adapter: Adapter, target: Target, layer: MergedLayer, held: Held) -> None:
    tensors = {NAMES.get(role, role): tensor for role, tensor in held.items()}
    alpha = alpha_of(tensors)
    tensors.pop("alpha", None)
    if "up" in held:
        tensors[NAMES["up"]] = held["up"] * (alpha / len(held["down"]) / adapter.sizes[target].scale)
    elif alpha and not math.isclose(alpha, layer.alpha, rel_tol=1e-3):
        said = "" if "alpha" in held else ", its rank,"
        raise UserError(
            f"{target} has the alpha {alpha:g}{said} in the file and {layer.alpha:g} in this run",
            SETTING,
            f"Set adapter.alpha={alpha:g}.",
        )
    for name, tensor in layer.method.restored(layer.weight.whole().float().cpu(), tensors).items():
        _copy(adapter, target, name, tensor)


def _copy(adapter: Adapter, target: Target, name: str, tensor: Tensor) -> None:
    """Write a tensor over the beginning of a slot, which may be longer in the rank."""
    own = adapter.view(f"{target}.{name}") if f"{target}.{name}" in adapter.arena.parameters else None
    if own is not None:
        tensor = tensor.flatten(own.dim() - 1) if tensor.dim() > own.dim() else tensor
        small, large = tensor.shape, own.shape
        differ = [side for side, (a, b) in enumerate(zip(small, large, strict=False)) if a != b]
        grows = name in GROWS and differ == [GROWS[name]] and small[GROWS[name]] < large[GROWS[name]]
        if len(small) == len(large) and (not differ or grows):
            own[tuple(slice(side) for side in small)] = tensor.to(own.device)
            return
    sizes = "nothing of the kind" if own is None else f"{name} of {tuple(own.shape)}"
    raise UserError(
        f"{target} has {name} of {tuple(tensor.shape)} in the file and {sizes} in this run",
        SETTING,
        "Take the file's rank or, for LoRA and DoRA, a larger one, and the same settings otherwise.",
    )
