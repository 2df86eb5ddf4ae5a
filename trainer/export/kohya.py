"""The default export: kohya's key names, which every client loads, written by us and never taken from module names.

A LoRA's layer becomes three tensors: `.lora_down.weight`, `.lora_up.weight` and a scalar `.alpha`.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.formats.kohya import ALPHA, UP, module_names
from trainer.formats.metadata import AdapterFacts, adapter_metadata, sign
from trainer.protocols import Target

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Tensors = Mapping[Target, Mapping[str, Tensor]]
Layout = Mapping[str, Collection[str]]


def kohya_tensors(adapter: Tensors, layout: Layout, dtype: str) -> dict[str, Tensor]:
    """Name and cast what an adapter holds.

    Args:
        adapter: target -> its tensors in float32, in the shape of the layer, by what stands behind the module's name.
        layout: module paths of every part: the names depend on the whole model.
        dtype: of the file: fp16, bf16, fp32. An alpha that it cannot hold exactly is written as fp32.

    Raises:
        UserError: a value is not finite in that type; such a file gives black pictures.
    """
    tensors = {}
    names = module_names(layout)
    for target, held in _of_one_alpha(adapter).items():
        stem = names[target.part, target.path]
        for ending, tensor in held.items():
            cast = tensor.to(DTYPES[dtype]).cpu().contiguous()
            if f".{ending}" == ALPHA and cast != tensor.cpu():
                cast = tensor.cpu()
            if not torch.isfinite(cast).all():
                raise UserError(
                    f"{stem} has values that {dtype} cannot hold",
                    "export.dtype",
                    "Export as fp32, or train with a lower rate.",
                )
            tensors[f"{stem}.{ending}"] = cast
    return tensors


def _of_one_alpha(adapter: Tensors) -> Tensors:
    """Give all layers of a LoRA the alpha that most of them have; `up` makes up for it.

    diffusers takes alphas of an SD 1.x's attention for those of other layers where they are not all the same.
    """
    alphas = Counter(float(held["alpha"]) for held in adapter.values())
    if len(alphas) < 2 or not all(UP.strip(".") in held for held in adapter.values()):
        return adapter
    alpha = alphas.most_common(1)[0][0]
    up = UP.strip(".")
    return {
        target: {**held, up: held[up] * (held["alpha"] / alpha), "alpha": torch.tensor(alpha)}
        for target, held in adapter.items()
    }


def export_adapter(path: Path, adapter: Tensors, layout: Layout, facts: AdapterFacts, dtype: str) -> None:
    """Write an adapter file: a pure function of its arguments, so the same run gives the same bytes.

    Raises:
        UserError: see `kohya_tensors`; or the disk is full.
    """
    write_atomic(path, sign(save(kohya_tensors(adapter, layout, dtype), adapter_metadata(facts))))
