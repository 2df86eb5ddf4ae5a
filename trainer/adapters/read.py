"""An adapter file, in any layout that `trainer.formats.kohya` knows, as matrices for a given model.

What does not fit is named, never passed over in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trainer.contract.catalog import ADAPTERS, resolve
from trainer.contract.errors import UserError
from trainer.formats.header import read_header
from trainer.formats.kohya import match, method_of
from trainer.protocols import Target

NAMES = {"down": "lora_down.weight", "up": "lora_up.weight"}  # role -> as the methods call it
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
class AdapterFile:
    """A file as it fits a model.

    Attributes:
        updates: layer -> what is added.
        unmatched: names in the file that found no layer.
        clip_skip: text encoder layer that it was trained on, counted from the end; None for the base's own.
    """

    path: Path
    updates: Mapping[Target, Update]
    unmatched: tuple[str, ...]
    clip_skip: int | None = None


def read_adapter(path: Path, parts: Mapping[str, nn.Module]) -> AdapterFile:
    """Read an adapter for a model.

    Raises:
        UserError: no safetensors file, or nothing in it fits this base.
    """
    header = read_header(path)
    names = header.tensors
    paths = {
        part: [name for name, module in root.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        for part, root in parts.items()
    }
    matched = match(names, paths)
    held: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(path).items():
        if name in matched.roles:
            stem, role = matched.roles[name]
            held.setdefault(stem, {})[role] = tensor.float()
    updates, misfits = {}, []
    for stem, (part, module_path) in matched.modules.items():
        weight = parts[part].get_submodule(module_path).weight
        update = _update(held[stem], weight)
        if update is not None and _fits(update, weight):
            updates[Target(part, module_path)] = update
        else:
            misfits.append(stem)
    if not updates:
        example = next(iter(names), "nothing")
        raise UserError(
            "nothing in this file fits the base model",
            str(path),
            f"It holds {example} and {len(names) - 1} more; choose its own base.",
        )
    said = header.metadata.get("ss_clip_skip", "")
    return AdapterFile(path, updates, (*matched.unmatched, *misfits), int(said) if said in CLIP_SKIPS else None)


def _update(held: Mapping[str, Tensor], weight: Tensor) -> Update | None:
    """What a layer's tensors add to a weight; None where they are of another layer's sizes."""
    row = ADAPTERS[method_of(held)]
    if row.formula:
        return _whole_update(resolve(row, row.formula), held, weight)
    down, up = held["down"], held["up"]
    # Without alpha every client takes a scale of 1.
    return Update(down, up * float(held["alpha"]) / down.shape[0] if "alpha" in held else up)


def _whole_update(method: Any, held: Mapping[str, Tensor], weight: Tensor) -> Update | None:
    """A matrix of any other method, as if it were a LoRA of full rank, so that it can be mixed like one."""
    tensors = {NAMES.get(role, role): tensor for role, tensor in held.items()}
    alpha = alpha_of(tensors)
    tensors.pop("alpha", None)
    try:
        change = method.update(weight.float(), tensors, alpha).float()
    except RuntimeError:  # torch's, for sizes that do not go together
        return None
    return Update(change, torch.eye(len(change)).view(len(change), -1, *[1] * (change.dim() - 2)))


def alpha_of(tensors: Mapping[str, Tensor]) -> float:
    """A layer's alpha; without one its rank, as every client takes a scale of 1 then; 0 where it has neither."""
    if "alpha" in tensors:
        return float(tensors["alpha"])
    inner = (NAMES["down"], "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
    return next((float(len(tensors[name])) for name in inner if name in tensors), 0.0)


def _fits(update: Update, weight: Tensor) -> bool:
    same = update.down.dim() == weight.dim() and update.down.shape[1:] == weight.shape[1:]
    return same and update.up.shape[0] == weight.shape[0] and update.up.shape[1] == update.down.shape[0]
