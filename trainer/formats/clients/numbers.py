"""The numbers of an adapter file: those that are none, those that are too small, and where its strength lies.

Read in place with numpy, a tensor at a time, so that no file is loaded as a whole.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainer.formats.clients.models import TEXT, TEXT_2, UNET
from trainer.formats.clients.sheet import EVERY, kind_of, size_of, split
from trainer.formats.header import Header, TensorInfo

Array = NDArray[np.float32]

SMALLEST_NORMAL = {"F16": 2.0**-14, "BF16": 2.0**-126}  # below it a type holds a number with fewer digits
_TYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip
# Numbers of a product that is made for its length: above those of the largest layer there is (a convolution of SDXL).
# A small file of two long factors could ask for any amount of memory otherwise.
_LARGEST = 2**25
_SAMPLED = 64  # columns of a large LoHa, whose energy no smaller matrices tell
_NAMED = 3  # broken tensors
_PARTS = (
    (TEXT_2, ("lora_te2_", "text_encoder_2.", "text_encoders.clip_g.")),
    (TEXT, ("lora_te", "text_encoder.", "text_encoders.", "text_model.", "base_model.model.text_model.")),
)


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a file are like.

    Attributes:
        values: how many there are, alphas aside.
        nan, infinite: that are no numbers; alphas count too.
        broken: the first tensors that have such, by name.
        zero: that are exactly 0; an untouched `up` is all zeros.
        tiny: that are not 0 and so small that their type holds them with fewer digits than others (underflow).
        energy: part -> share of the squared length of all updates at strength 1; empty where there is none. Of a LoHa
            it is estimated.
        silent: modules whose update is 0 everywhere.
        unmeasured: modules whose update depends on the base (DoRA, OFT) or is of another kind.
        unread: tensors of a type that is not read, such as F8_E4M3.
        alphas: module -> its alpha.
    """

    values: int
    nan: int
    infinite: int
    broken: tuple[str, ...]
    zero: int
    tiny: int
    energy: Mapping[str, float]
    silent: int
    unmeasured: int
    unread: int
    alphas: Mapping[str, float]

    @property
    def text_share(self) -> float:
        """Share of the energy that lies in the text encoders, 0 to 1."""
        return self.energy.get(TEXT, 0.0) + self.energy.get(TEXT_2, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, ready for JSON."""
        return {**asdict(self), "alphas": sorted(set(self.alphas.values()))}


def measure(path: Path, header: Header) -> Numbers:
    """Read all numbers of a file.

    Raises:
        OSError: the file cannot be read.
    """
    counts = {"values": 0, "nan": 0, "infinite": 0, "zero": 0, "tiny": 0, "unread": 0}
    energies: dict[str, float] = {}
    silent = unmeasured = 0
    broken: list[str] = []
    alphas: dict[str, float] = {}
    for stem, names, held in _modules(path, header):
        for role, values in held.items():
            before = counts["nan"] + counts["infinite"]
            _count(counts, role, values, header.tensors[names[role]])
            if counts["nan"] + counts["infinite"] > before and len(broken) < _NAMED:
                broken.append(names[role])
        alpha = held.get("alpha")
        if alpha is not None and alpha.size == 1:
            alphas[stem] = float(alpha.reshape(-1)[0])
        energy = _energy({role: header.tensors[name] for role, name in names.items()}, held)
        if energy is None:
            unmeasured += 1
        else:
            part = part_of(stem)
            energies[part] = energies.get(part, 0.0) + energy
            silent += energy == 0
    total = sum(energies.values())
    shares = {part: energy / total for part, energy in energies.items()} if total and np.isfinite(total) else {}
    return Numbers(broken=tuple(broken), energy=shares, silent=silent, unmeasured=unmeasured, alphas=alphas, **counts)


def _modules(path: Path, header: Header) -> Iterator[tuple[str, dict[str, str], dict[str, Array | None]]]:
    """Every module: its name, role -> name of the tensor, role -> its numbers."""
    modules: dict[str, dict[str, str]] = {}
    for name in header.tensors:
        stem, role = split(name, EVERY)
        modules.setdefault(stem, {})[role or name] = name
    with path.open("rb") as file:
        for stem, names in modules.items():
            yield stem, names, {role: _read(file, header, header.tensors[name]) for role, name in names.items()}


def part_of(stem: str) -> str:
    """The part of the model that a module's name, in any spelling, belongs to."""
    return next((part for part, starts in _PARTS if stem.startswith(starts)), UNET)


def _read(file: BinaryIO, header: Header, info: TensorInfo) -> Array | None:
    """A tensor in float32; None for a type that is not read."""
    layout = _TYPES.get(info.dtype)
    begin, end = info.offsets
    if layout is None:
        return None
    if begin == end:
        return np.zeros(info.shape, np.float32)
    file.seek(header.body_start + begin)
    raw = np.frombuffer(file.read(end - begin), layout)
    if info.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # an F64 beyond float32 is infinite to every client as well
        return raw.astype(np.float32).reshape(info.shape)


def _count(counts: dict[str, int], role: str, values: Array | None, info: TensorInfo) -> None:
    if values is None:
        counts["unread"] += 1
        return
    sizes = np.abs(values)
    if not np.isfinite(sizes.max(initial=0.0)):  # NaN goes through it
        counts["nan"] += int(np.isnan(values).sum())
        counts["infinite"] += int(np.isinf(values).sum())
    if role == "alpha":
        return
    zero = values.size - int(np.count_nonzero(sizes))
    counts["values"] += values.size
    counts["zero"] += zero
    if smallest := SMALLEST_NORMAL.get(info.dtype):
        counts["tiny"] += int(np.count_nonzero(sizes < smallest)) - zero


def _energy(infos: Mapping[str, TensorInfo], held: Mapping[str, Array | None]) -> float | None:
    """The squared length of a module's update; None where the file alone does not tell."""
    kind = kind_of(infos)
    found = {role: values for role, values in held.items() if values is not None}
    if len(found) < len(held) or {"dora_scale", "mid", "hada_t1", "lokr_t2"} & held.keys() or not size_of(infos):
        return None
    if kind == "LoRA":
        return _times(_product(found["up"], found["down"]), _scale(found, len(found["down"])))
    if kind == "LoHa":
        if (size_of(infos) or 0) > _LARGEST:
            return None
        return _hadamard(found) * _scale(found, len(found["hada_w1_b"]))
    if kind == "LoKr":
        inner = found.get("lokr_w2_b", found.get("lokr_w1_b"))
        scale = 1.0 if inner is None else _scale(found, len(inner))
        return _times(_factor(found, "lokr_w1"), _factor(found, "lokr_w2"), scale)
    return None


def _hadamard(found: Mapping[str, Array]) -> float:
    """|(A1 B1) * (A2 B2)|², by the element; of many columns from some that lie all over the matrix."""
    wide = [_flat(found[f"hada_w{n}_b"]) for n in (1, 2)]
    columns = wide[0].shape[1]
    taken = np.unique(np.linspace(0, columns - 1, _SAMPLED).astype(int))
    first, second = (np.einsum("or,ri->oi", found[f"hada_w{n}_a"], b[:, taken]) for n, b in enumerate(wide, 1))
    return float(np.square(first * second).sum(dtype=np.float64) * columns / len(taken))


def _times(*factors: float | None) -> float | None:
    """Their product; None where one is not known."""
    known = [factor for factor in factors if factor is not None]
    return float(np.prod(known)) if len(known) == len(factors) else None


def _scale(found: Mapping[str, Array], rank: int) -> float:
    """(alpha / rank)², 1 without alpha as in every client."""
    alpha = found.get("alpha")
    return float(alpha.reshape(-1)[0] / rank) ** 2 if alpha is not None and alpha.size == 1 and rank else 1.0


def _factor(found: Mapping[str, Array], name: str) -> float | None:
    if name in found:
        return float(np.square(found[name]).sum())
    return _product(found[f"{name}_a"], found[f"{name}_b"])


def _product(up: Array, down: Array) -> float | None:
    """|up @ down|², by the way that makes the smaller matrix; None where either would be too large."""
    wide, tall = _flat(down), _flat(up)
    rank, whole = len(wide) ** 2, len(tall) * wide.shape[1]
    if min(rank, whole) > _LARGEST:
        return None
    # Not `@`: BLAS' threads wait for each other where a training has the cores, for minutes instead of a second.
    if whole < rank:
        return float(np.square(np.einsum("or,ri->oi", tall, wide)).sum(dtype=np.float64))
    inner, outer = np.einsum("or,os->rs", tall, tall), np.einsum("ri,si->rs", wide, wide)
    return float((inner.astype(np.float64) * outer).sum())


def _flat(values: Array) -> Array:
    return values.reshape(len(values), math.prod(values.shape[1:]))  # not -1: a rank of 0 has no numbers to tell it by
