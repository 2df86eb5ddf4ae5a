"""What became of a trained adapter on its way into the file: read back, and compared layer by layer."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from trainer.contract.files import write_atomic
from trainer.export.kohya import Layout, Tensors, filled_up
from trainer.formats.clients.report import PROOF_SUFFIX, report
from trainer.formats.header import body_sha256
from trainer.formats.kohya import match
from trainer.protocols import Target

_DOWN, _UP = "lora_down.weight", "lora_up.weight"
_FILE_NAMES = {"down": _DOWN, "up": _UP}  # the reader's roles -> as methods call them
_DOUBTFUL = 0.05  # relative error of an update that can be seen


@dataclass(frozen=True)
class Proof:
    """A comparison of file and adapter.

    Attributes:
        layers: layers compared.
        missing: layers of the adapter that the reader did not find in the file.
        largest: largest relative error |file - trained| / |trained| of an update; of methods other than LoRA, whose
            update needs the base, of one of their tensors.
        at: the layer that has it.
        flushed: numbers that were not 0 in training and are in the file.
        values: numbers in all.
    """

    layers: int
    missing: int
    largest: float
    at: str
    flushed: int
    values: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "layers": self.layers, "missing": self.missing, "largest_error": self.largest, "at": self.at,
            "flushed": self.flushed, "values": self.values,
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """What a person should know; nothing where all is well."""
        if self.missing:
            yield f"{self.missing} trained layers cannot be read back from the file"
        if self.largest > _DOUBTFUL or math.isnan(self.largest):
            yield (
                f"the file differs from the trained adapter by up to {self.largest:.1%} of a layer's change "
                f"({self.at}); export.dtype=fp32 keeps all of it"
            )
        if self.flushed * 100 > self.values:
            yield f"{self.flushed} of {self.values} numbers were too small for the file and are 0 there"


def prove(path: Path, adapter: Tensors, layout: Layout) -> Proof:
    """Read a file back by our own reader's rules and compare.

    Args:
        path: of the file.
        adapter: what was exported: target -> its tensors in float32.
        layout: module paths of every part.
    """
    tensors = load_file(path)
    matched = match(tensors, layout)
    held: dict[Target, dict[str, Tensor]] = {}
    for name, (stem, role) in matched.roles.items():
        part, module = matched.modules[stem]
        held.setdefault(Target(part, module), {})[_FILE_NAMES.get(role, role)] = tensors[name].float()
    largest, at, flushed, values = 0.0, "", 0, 0
    for target, trained in adapter.items():
        found = held.get(target)
        if found is None:
            continue
        kept = _of_size({name: tensor.float().cpu() for name, tensor in trained.items()}, found)
        error = _error(kept, found)
        if error > largest or math.isnan(error):
            largest, at = error, f"{target.part} {target.path}"
        for name in kept.keys() & found.keys() - {"alpha"}:
            values += kept[name].numel()
            flushed += int(((kept[name] != 0) & (found[name] == 0)).sum())
    return Proof(len(adapter.keys() & held.keys()), len(adapter.keys() - held.keys()), largest, at, flushed, values)


def write_report(path: Path, adapter: Tensors, layout: Layout, digest: str = "") -> list[str]:
    """Write what was measured beside an exported file, and return a line for everything that a person should know.

    Args:
        path: of the file.
        adapter: what was exported.
        layout: module paths of every part.
        digest: SHA-256 of the file's tensors, where it is known already.
    """
    proof, digest = prove(path, adapter, layout), digest or body_sha256(path)
    content = {"hash": digest, "round_trip": proof.as_dict()}
    write_atomic(path.with_suffix(PROOF_SUFFIX), json.dumps(content, indent=2).encode())
    return [*proof.lines(), *report(path, digest=digest).warnings()]


def _of_size(trained: dict[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was trained, with the rank that the file has: files fill ranks up with zeros where readers need it."""
    if not trained.keys() & found.keys() >= {_DOWN, _UP}:
        return trained
    rank = len(found[_DOWN])
    alpha = trained["alpha"] * (rank / len(trained[_DOWN]))  # over that rank the same scale
    down, up = filled_up(trained[_DOWN], trained[_UP], rank)
    return {**trained, _DOWN: down, _UP: up, "alpha": alpha}


def _error(trained: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    if {_DOWN, _UP} <= trained.keys() and "dora_scale" not in trained:
        return _update_error(trained, found)
    errors = (_relative(trained[name], found[name]) for name in trained.keys() & found.keys())
    return max(errors, default=0.0)


def _relative(trained: Tensor, found: Tensor) -> float:
    size = float(trained.double().norm())
    away = float((trained.double() - found.double().view_as(trained)).norm())
    return away / size if size else (math.inf if away else 0.0)


def _update_error(trained: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """|B'A' - BA| / |BA| without making either: from inner products of the small matrices."""
    up, down = _halves(trained)
    other_up, other_down = _halves(found)
    size = _inner(up, down, up, down)
    # B'A' - BA = (B' - B)A' + B(A' - A): small terms are made of small matrices, so nothing cancels.
    first, second = (other_up - up, other_down), (up, other_down - down)
    away = _inner(*first, *first) + 2 * _inner(*first, *second) + _inner(*second, *second)
    return math.sqrt(max(away, 0.0) / size) if size else (math.inf if away else 0.0)


def _halves(held: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Up with the scale in it [O, R], and down [R, I...]."""
    down = held[_DOWN].double().flatten(1)
    scale = float(held["alpha"]) / len(down) if "alpha" in held else 1.0
    return held[_UP].double().flatten(1) * scale, down


def _inner(up: Tensor, down: Tensor, other_up: Tensor, other_down: Tensor) -> float:
    return float(((up.T @ other_up) * (down @ other_down.T)).sum())
