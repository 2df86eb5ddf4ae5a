"""The default export: kohya's key names, which every client loads, written by us and never taken from module names.

A LoRA's layer becomes three tensors: `.lora_down.weight`, `.lora_up.weight` and a scalar `.alpha`. Both matrices are
brought to like norms first: fp16 has few digits for the small numbers of one that is near zero beside the other.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from trainer.adapters.tensors import is_finite
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.formats.clients.pipelines import even_ranks
from trainer.formats.header import parse_header
from trainer.formats.kohya import ALPHA, DOWN, UP, module_names
from trainer.formats.metadata import HASH, AdapterFacts, adapter_metadata, sign
from trainer.protocols import Target

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Tensors = Mapping[Target, Mapping[str, Tensor]]
Layout = Mapping[str, Collection[str]]
_UP, _DOWN = UP.strip("."), DOWN.strip(".")
FILLED, AMPLE = 4, 2**26  # times as large may zeros make a file; or of so many numbers in all


def kohya_tensors(adapter: Tensors, layout: Layout, dtype: str) -> dict[str, Tensor]:
    """Name and cast what an adapter holds.

    Args:
        adapter: target -> its tensors in float32, in the shape of the layer, by what stands behind the module's name.
        layout: module paths of every part: the names depend on the whole model.
        dtype: of the file: fp16, bf16, fp32. A LoRA's alpha is one that it holds, and `up` makes up for the difference;
            a rank in its place, or another method's alpha, that it cannot hold exactly is written as fp32.

    Raises:
        UserError: a value is not finite in that type; such a file gives black pictures.
    """
    tensors = {}
    names = module_names(layout)
    stems = {target: names[target.part, target.path] for target in adapter}
    for target, held in _as_all_read(adapter, stems, dtype).items():
        stem = stems[target]
        for ending, tensor in balanced(held).items():
            cast = tensor.to(DTYPES[dtype]).cpu().contiguous()
            if f".{ending}" == ALPHA and cast != tensor.cpu():
                cast = tensor.cpu()
            if not is_finite(cast):
                raise UserError(
                    f"{stem} has values that {dtype} cannot hold",
                    "export.dtype",
                    "Export as fp32, or train with a lower rate.",
                )
            tensors[f"{stem}.{ending}"] = cast
    return tensors


def _as_all_read(adapter: Tensors, stems: Mapping[Target, str], dtype: str) -> Tensors:
    """Give a LoRA's layers ranks and alphas that every client takes as they are; `up` makes up for another alpha.

    That is the alpha that most layers have, wherever diffusers mistakes several; where ranks of a UNet differ, the rank
    (see `even_ranks`).
    """
    if not all(_UP in held for held in adapter.values()):
        return adapter
    common = Counter(float(held["alpha"]) for held in adapter.values()).most_common(1)[0][0]
    alpha = float(torch.tensor(common).to(DTYPES[dtype]))  # rsLoRA's is seldom a number that fp16 has
    if not alpha or math.isinf(alpha):
        alpha = 1.0
    ranks = {stems[target]: len(held[_DOWN]) for target, held in adapter.items()}
    sides = {stems[target]: len(held[_UP]) + held[_DOWN][0].numel() for target, held in adapter.items()}
    filled = even_ranks(ranks)
    if not affordable(ranks, ranks | filled, sides):
        filled, alpha = {}, float(usual_rank(ranks))
    return {
        target: _sized(held, filled.get(stems[target], ranks[stems[target]]), filled.get(stems[target], alpha))
        for target, held in adapter.items()
    }


def affordable(ranks: Mapping[str, int], wanted: Mapping[str, int], sides: Mapping[str, int]) -> bool:
    """Whether a file keeps a fair size with larger ranks: one layer of rank 4096 would make gigabytes of all others.

    Args:
        ranks: name of a module -> its rank.
        wanted: the same with the larger ones.
        sides: of a module, outputs and inputs together: numbers that a rank takes.
    """
    before, after = (sum(sides[name] * rank for name, rank in held.items()) for held in (ranks, wanted))
    return after <= max(FILLED * before, AMPLE)


def usual_rank(ranks: Mapping[str, int]) -> int:
    """The rank of most layers: as the alpha of all it is right for these where a release scales all by 1 (0.32)."""
    return Counter(ranks.values()).most_common(1)[0][0]


def _sized(held: Mapping[str, Tensor], rank: int, alpha: float) -> Mapping[str, Tensor]:
    """The same update with another rank, of zeros where it is larger, and another alpha."""
    down, up = held[_DOWN], held[_UP]
    scale = float(held["alpha"]) / len(down) / (alpha / rank)
    if rank == len(down) and scale == 1.0:
        return held
    return {**held, **dict(zip((_DOWN, _UP), filled_up(down, up * scale, rank), strict=True)),
            "alpha": torch.tensor(float(alpha))}  # fmt: skip


def filled_up(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Down [R, I, k...] and up [O, R, 1...] with zeros up to a rank: their product stays the same."""
    more = rank - len(down)
    return (
        torch.cat([down, down.new_zeros(more, *down.shape[1:])]),
        torch.cat([up, up.new_zeros(len(up), more, *up.shape[2:])], dim=1),
    )


def balanced(held: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Bring both matrices of a LoRA to root mean squares at most a factor of 2 apart; their product stays the same.

    Trained ones are far apart: down begins near 1 / sqrt(inputs), up at 0. The factor is a power of two, so no digit of
    either is lost.
    """
    if not {_UP, _DOWN} <= held.keys():
        return held
    up, down = (float(held[name].double().square().mean().sqrt()) for name in (_UP, _DOWN))
    if not (up and down and math.isfinite(up) and math.isfinite(down)):
        return held
    factor = 2.0 ** round(math.log2(up / down) / 2)
    return {**held, _DOWN: held[_DOWN] * factor, _UP: held[_UP] / factor}


def export_adapter(path: Path, adapter: Tensors, layout: Layout, facts: AdapterFacts, dtype: str) -> str:
    """Write an adapter file: a pure function of its arguments, so the same run gives the same bytes.

    Returns:
        SHA-256 of its tensors, see `body_sha256`.

    Raises:
        UserError: see `kohya_tensors`; or the disk is full.
    """
    tensors = kohya_tensors(adapter, layout, dtype)
    if all(_UP in held for held in adapter.values()):  # what readers scale by: seldom more than one alpha
        alphas = Counter(float(tensor) for name, tensor in tensors.items() if name.endswith(ALPHA))
        facts = replace(facts, alpha=alphas.most_common(1)[0][0])
    blob = sign(save(tensors, adapter_metadata(facts)))
    write_atomic(path, blob)
    return parse_header(blob).metadata[HASH]
