"""An adapter file, in any form that `trainer.formats` knows, as matrices for a given model.

What does not fit is named, never passed over in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.adapters.foreign import (
    CAYLEY,
    NAMES,
    Held,
    alpha_of,
    change_of,
    changes_weight,
    lora_halves,
    scale_of,
    takes_factors,
)
from trainer.adapters.tensors import read_finite
from trainer.contract.errors import UserError
from trainer.formats.fit import Fit, fit
from trainer.formats.header import open_tensors
from trainer.formats.kinds import SHIFT, UP_BIAS
from trainer.formats.kohya import Module
from trainer.formats.peft_config import PeftConfig, peft_config
from trainer.protocols import Target

__all__ = [
    "NAMES",
    "AdapterFile",
    "Shift",
    "Update",
    "alpha_of",
    "layers_of",
    "read_adapter",
    "shift_of",
    "with_config",
]

CLIP_SKIPS = {str(skip) for skip in range(1, 13)}  # anything else in a file is nobody's clip skip


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one layer at strength 1.

    Attributes:
        down: [R, I], or [R, I, kh, kw] for a convolution.
        up: [O, R], or [O, R, 1, 1], alpha / rank multiplied in, float32.
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class Shift:
    """What an adapter adds to one layer's small tensors at strength 1, float32.

    Attributes:
        bias: [O]; None where it stays.
        weight: [O], of a norm; None for any other layer, or where it stays.
    """

    bias: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True)
class AdapterFile:
    """A file as it fits a model.

    Attributes:
        updates: layer -> what is added.
        unmatched: names in the file that found no layer.
        clip_skip: text encoder layer that it was trained on, counted from the end; None for the base's own.
        shifts: layer -> what is added to its bias, or to a norm.
        fit: how the file fits, in full; None for one that was not read from a file.
    """

    path: Path
    updates: Mapping[Target, Update]
    unmatched: tuple[str, ...]
    clip_skip: int | None = None
    shifts: Mapping[Target, Shift] = field(default_factory=dict)
    fit: Fit | None = None


def layers_of(parts: Mapping[str, nn.Module]) -> dict[Module, tuple[int, ...]]:
    """(part, path) -> shape of the weight, of all layers that an adapter can change; of a norm one size."""
    return {
        (part, path): tuple(module.weight.shape)
        for part, root in parts.items()
        for path, module in root.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) or _is_norm(module)
    }


def read_adapter(path: Path, parts: Mapping[str, nn.Module], base: str = "this base") -> AdapterFile:
    """Read an adapter for a model.

    Args:
        path: of the file.
        parts: the model's, without any adapter in them.
        base: what the report calls it.

    Raises:
        UserError: no safetensors file; nothing in it fits this base; or some of its numbers are none.
    """
    with open_tensors(path) as (file, header):
        found = fit(header.tensors, layers_of(parts), base)
        if not found.matched:
            raise UserError(
                "nothing in this file fits the base model",
                str(path),
                " ".join([*found.lines(), "Choose its own base."]),
            )
        held: dict[str, dict[str, Tensor]] = {}
        for name, tensor in read_finite(file, header, sorted(found.roles, key=lambda n: header.tensors[n].offsets)):
            stem, role = found.roles[name]
            held.setdefault(stem, {})[role] = tensor
    config = peft_config(path, header.metadata)
    updates, shifts = {}, {}
    for stem, tensors in held.items():
        part, module = found.matched[stem]
        weight, target = parts[part].get_submodule(module).weight, Target(part, module)
        told = with_config(tensors, target, config)
        update, shift = _update(told, weight), shift_of(told)
        if update is not None:
            updates[target] = update
        if shift is not None:
            shifts[target] = shift
    said = header.metadata.get("ss_clip_skip", "")
    skip = int(said) if said in CLIP_SKIPS else None
    return AdapterFile(path, updates, tuple(found.unmatched), skip, shifts, found)


def with_config(held: Held, target: Target, config: PeftConfig) -> Held:
    """A layer's tensors with what only the file's config tells: alpha, and how PEFT's OFT turns."""
    if "oft_R" in held and config.cayley(target.part):
        return {**held, CAYLEY: torch.ones(())}
    if "alpha" in held:
        return held
    if "lokr_w1" in held and "lokr_w2" in held:
        scale = config.scale(target.part, target.path)
        return held if scale is None else {**held, "lokr_w2": held["lokr_w2"] * scale}
    rank = alpha_of(held)
    alpha = config.alpha(target.part, target.path, int(rank)) if rank else None
    return held if alpha is None else {**held, "alpha": torch.tensor(alpha)}


@torch.no_grad()
def _update(held: Held, weight: Tensor) -> Update | None:
    """What a layer's tensors add to a weight; None for those that add to its bias only."""
    if not changes_weight(held):
        return None
    if takes_factors(held):
        return Update(*lora_halves(held, weight))
    # As if it were a LoRA of full rank, so that it can be mixed like one.
    change = change_of(held, weight)
    return Update(change, torch.eye(len(change)).view(len(change), -1, *[1] * (change.dim() - 2)))


def shift_of(held: Held) -> Shift | None:
    """What a layer's tensors add to its bias, or to a norm; None for nothing."""
    flat = {role: held[role].flatten() for role in (SHIFT, UP_BIAS, "b_norm", "w_norm") if role in held}
    if UP_BIAS in flat:
        flat[SHIFT] = flat.get(SHIFT, 0.0) + flat[UP_BIAS] * scale_of(held, len(held["down"]))
    return Shift(flat.get(SHIFT, flat.get("b_norm")), flat.get("w_norm")) if flat else None


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() == 1 and not any(True for _ in module.children())
