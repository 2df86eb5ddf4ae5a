"""A LoRA file in the form that diffusers and PEFT write: their names, and no alpha.

Diffusers takes alpha = rank where a file tells none, so `up` takes in what else it would be multiplied by. That ranks
differ from layer to layer is told in `lora_adapter_metadata` too, for versions (0.34 on) that take one alpha for all.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.contract.errors import UserError
from trainer.formats.header import TensorInfo, parse_header
from trainer.formats.kinds import misfit
from trainer.formats.kohya import ALPHA, DOWN, UP
from trainer.formats.metadata import renamed
from trainer.formats.peft_names import ENDINGS, peft_modules

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}
_ALPHAS = _TYPES | {
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
}  # whole numbers are never scaled
_LORA = {DOWN: "down", UP: "up", ALPHA: "alpha"}


def as_peft(blob: bytes, stem: str) -> bytes:
    """Rewrite a kohya LoRA file.

    Args:
        blob: the file.
        stem: of the new one's name.

    Raises:
        UserError: it holds another method, other names, or a type whose numbers cannot be scaled.
    """
    header = parse_header(blob, stem)
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, info in header.tensors.items():
        ending = next((ending for ending in _LORA if name.endswith(ending)), None)
        if ending is None:
            fix = "Export it as kohya; diffusers reads those names too."
            raise UserError("diffusers' form holds plain LoRA only", name, fix)
        modules.setdefault(name.removesuffix(ending), {})[ending] = info
    if not modules:
        raise UserError("there is no adapter in this file", stem, "Give a LoRA.")
    names, body = peft_modules(modules), blob[header.body_start :]
    written: dict[str, Any] = {}
    parts, place, ranks = [], 0, dict[str, int]()
    for module, held in modules.items():
        if not {DOWN, UP} <= held.keys():
            raise UserError("this module lacks one of its matrices", module, "See atelier inspect.")
        up, down = held[UP].shape, held[DOWN].shape
        weight = (*up[:1], *down[1:]) or (1,)
        if reason := misfit({_LORA[ending]: info for ending, info in held.items()}, weight):
            raise UserError(f"this module cannot be applied: {reason}", module, "See atelier inspect.")
        rank = down[0]
        ranks[names[module]] = rank
        scale = _number(body, held[ALPHA]) / rank if ALPHA in held else 1.0
        for ending, factor in ((DOWN, 1.0), (UP, scale)):
            data = _scaled(body, held[ending], factor, module)
            key = names[module] + ENDINGS[ending]
            offsets = [place, place := place + len(data)]
            written[key] = {"dtype": held[ending].dtype, "shape": list(held[ending].shape), "data_offsets": offsets}
            parts.append(data)
    written["__metadata__"] = {**header.metadata, **rank_patterns(ranks)}
    text = json.dumps(written, ensure_ascii=False).encode(errors="replace")
    text += b" " * (-len(text) % 8)
    return renamed(b"".join([len(text).to_bytes(8, "little"), text, *parts]), stem)


def rank_patterns(ranks: Mapping[str, int]) -> dict[str, str]:
    """What PEFT has to be told where the ranks of a part differ; of all parts then, for it guesses none.

    Args:
        ranks: name of a module in PEFT's form -> its rank.

    Returns:
        Metadata of the file.
    """
    parts: dict[str, dict[str, int]] = {}
    for name, rank in ranks.items():
        part, _, path = name.partition(".")
        parts.setdefault(part, {})[path.removeprefix("text_model.")] = rank  # newer text encoders have no such module
    if all(len(set(own.values())) == 1 for own in parts.values()):
        return {}
    told: dict[str, Any] = {}
    for part, own in parts.items():
        common = Counter(own.values()).most_common(1)[0][0]
        others = {path: rank for path, rank in own.items() if rank != common}
        about = {"r": common, "lora_alpha": common, "rank_pattern": others, "alpha_pattern": others}
        told |= {f"{part}.{key}": value for key, value in {**about, "target_modules": list(own)}.items()}
    return {"lora_adapter_metadata": json.dumps(told, sort_keys=True)}


def _number(body: bytes, info: TensorInfo) -> float:
    return float(_read(body, info, _ALPHAS).reshape(-1)[0])


def _read(body: bytes, info: TensorInfo, types: Mapping[str, str] = _TYPES) -> NDArray[np.float64]:
    if info.dtype not in types:
        raise UserError(f"numbers of the type {info.dtype} cannot be scaled", "dtype", "Export it as fp16 first.")
    raw = np.frombuffer(body[slice(*info.offsets)], types[info.dtype])
    if info.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64)


def _scaled(body: bytes, info: TensorInfo, factor: float, module: str) -> bytes:
    if factor == 1:
        return body[slice(*info.offsets)]
    values = _read(body, info) * factor
    if info.dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # to the nearest, ties to even
    with np.errstate(over="ignore"):
        cast = values.astype(_TYPES[info.dtype])
    if not np.isfinite(cast).all():
        raise UserError("its numbers are too large for fp16 with the scale in them", module, "Export as fp32.")
    return cast.tobytes()
