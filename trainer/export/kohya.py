"""The default export: kohya's key names, which every client loads, written by us and never taken from module names.

Each layer becomes three tensors: `.lora_down.weight`, `.lora_up.weight` and a scalar `.alpha`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.formats.kohya import ALPHA, DOWN, UP, module_names
from trainer.formats.metadata import AdapterFacts, adapter_metadata, sign
from trainer.protocols import Target

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Matrices = Mapping[Target, tuple[Tensor, Tensor]]
Layout = Mapping[str, Collection[str]]


def kohya_tensors(matrices: Matrices, layout: Layout, alpha: float, dtype: str) -> dict[str, Tensor]:
    """Name and cast the matrices.

    Args:
        matrices: target -> (down, up) in float32, in the shape of the layer.
        layout: module paths of every part: the names depend on the whole model.
        alpha: one for all layers; clients scale by alpha / rank.
        dtype: of the file: fp16, bf16, fp32.

    Raises:
        UserError: a value is not finite in that type; such a file gives black pictures.
    """
    tensors = {}
    names = module_names(layout)
    for target, halves in matrices.items():
        stem = names[target.part, target.path]
        for ending, tensor in zip((DOWN, UP), halves, strict=True):
            cast = tensor.to(DTYPES[dtype]).cpu().contiguous()
            if not torch.isfinite(cast).all():
                raise UserError(
                    f"{stem} has values that {dtype} cannot hold",
                    "export.dtype",
                    "Export as fp32, or train with a lower rate.",
                )
            tensors[stem + ending] = cast
        tensors[stem + ALPHA] = torch.tensor(alpha, dtype=DTYPES[dtype])
    return tensors


def export_adapter(
    path: Path, matrices: Matrices, layout: Layout, alpha: float, facts: AdapterFacts, dtype: str
) -> None:
    """Write an adapter file: a pure function of its arguments, so the same run gives the same bytes.

    Raises:
        UserError: see `kohya_tensors`; or the disk is full.
    """
    write_atomic(path, sign(save(kohya_tensors(matrices, layout, alpha, dtype), adapter_metadata(facts))))
