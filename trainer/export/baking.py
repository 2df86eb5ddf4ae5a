"""Adapters built into a base: a copy of it whose weights have the sum of their changes in them.

A file is gone through tensor by tensor, so memory holds one at a time, whatever the size of the base. What no adapter
changes is copied byte by byte. Changes are added in float32 and rounded once, to the type that the base has.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from trainer.adapters.foreign import changes_weight, moves
from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic, storage_error, unfinished
from trainer.contract.tools import MergeRequest
from trainer.export.bases import Layers, Place, base_layers
from trainer.export.opened import Opened, opened
from trainer.export.resizing import check_together, device_of
from trainer.export.written import Told, refuse_existing
from trainer.formats.header import Header, read_header
from trainer.formats.kohya import Module

PIECE = 2**24  # bytes copied at once
SPARE = 2**28  # bytes of disk that stay free
STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")
OTHER_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".msgpack", ".onnx", ".h5")

WEIGHT, BIAS = "weight", "bias"
Spot = tuple[Place, Module, str]  # a layer's place in a tensor, the layer, and which of its tensors that is
Changes = Mapping[str, Sequence[Spot]]  # tensor of a file -> what is changed in it


@dataclass(frozen=True)
class Baked:
    """A base that was written.

    Attributes:
        file: its path: a file, or a folder where the base is one.
        bytes: of it.
        changed: layers with a change.
        notices: what a person should know.
    """

    file: str
    bytes: int
    changed: int
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass
class _Mix:
    """The sum of several adapters on a base."""

    sources: Sequence[Opened]
    strengths: Sequence[float]
    device: torch.device
    stems: dict[Module, list[tuple[int, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, source in enumerate(self.sources):
            for stem in source.modules:
                if stem in source.targets:
                    self.stems.setdefault(source.targets[stem], []).append((index, stem))

    def touched(self, module: Module) -> tuple[str, ...]:
        """Which of a layer's tensors are changed."""
        roles = [self.sources[index].modules[stem] for index, stem in self.stems[module]]
        weight = any(changes_weight(held) or "w_norm" in held for held in roles)
        bias = any(moves(held.keys() - {"w_norm"}) for held in roles)
        return (WEIGHT,) * weight + (BIAS,) * bias

    def change(self, module: Module, what: str, shape: Sequence[int]) -> Tensor:
        """What is added to a layer's weight or bias: float32, on the CPU."""
        total = torch.zeros(*shape)
        for index, stem in self.stems[module]:
            source = self.sources[index]
            added = self._added(source, stem, what)
            try:
                if added is not None:
                    total += self.strengths[index] * added.cpu().reshape(total.shape)
            except RuntimeError as error:  # torch's, for sizes that do not go together
                problem = f"{stem} has other sizes than the base: {str(error).splitlines()[0][:120]}"
                raise UserError(problem, str(source.path), "Give the base it was trained on.") from error
        return total

    def _added(self, source: Opened, stem: str, what: str) -> Tensor | None:
        if what == WEIGHT and changes_weight(source.modules[stem]):
            return source.whole(stem, self.device)
        shift = source.shift(stem)
        return None if shift is None else shift.weight if what == WEIGHT else shift.bias


def bake(request: MergeRequest, told: Told) -> Baked:
    """Write a copy of a base with adapters in it.

    Raises:
        UserError: they do not fit it or each other, something is in the place of the result, or the disk is too full.
    """
    out = Path(request.out)
    refuse_existing(out)
    layers = base_layers(request.into)
    assert layers.source is not None
    path = layers.source.facts.path
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(Path(one.file), request.into)) for one in request.adapters]
        notices = [*check_together(sources), *_left_out(sources)]
        device = device_of(request.device, True)
        mix = _Mix(sources, [one.strength for one in request.adapters], device)
        absent = [module for module in mix.stems if module not in layers.places]
        if absent or not mix.stems:
            problem = f"{'.'.join(absent[0])} is not in this base" if absent else "nothing in these files fits it"
            raise UserError(problem, request.into, "Give the base they were trained on, whole.")
        _check_room(path, out)
        out.parent.mkdir(parents=True, exist_ok=True)
        names = ", ".join(f"{Path(one.file).stem}:{one.strength:g}" for one in request.adapters)
        notices += _without_bias(mix, layers)
        if path.is_file():
            changes = _by_tensor(mix, layers, path)
            replace_atomic(out, lambda temporary: _copy_file(path, temporary, changes, mix, names, told))
        else:
            notices += _copy_folder(path, out, layers, mix, names, told)
    size = sum(file.stat().st_size for file in (out.rglob("*") if out.is_dir() else [out]) if file.is_file())
    return Baked(str(out), size, len(mix.stems), tuple(notices))


def _left_out(sources: Iterable[Opened]) -> Iterator[str]:
    for source in sources:
        yield from (f"{source.path.name}: {line}" for line in source.notices)
        if lost := sorted(source.modules.keys() - source.targets.keys()):
            yield f"{source.path.name}: no layer of this base, left out: {lost[0]} ({len(lost)} layers)"


def _by_tensor(mix: _Mix, layers: Layers, file: Path) -> dict[str, list[Spot]]:
    found: dict[str, list[Spot]] = {}
    for module in mix.stems:
        place = layers.places[module]
        for what in mix.touched(module) if place.file == file else ():
            found.setdefault(place.bias if what == BIAS else place.name, []).append((place, module, what))
    return found


def _without_bias(mix: _Mix, layers: Layers) -> list[str]:
    """A sentence about changes of biases that the base does not have."""
    changed = [module for module in mix.stems if BIAS in mix.touched(module)]
    held = {file: read_header(file).tensors for file in {layers.places[module].file for module in changed}}
    lost = [".".join(one) for one in changed if layers.places[one].bias not in held[layers.places[one].file]]
    return [f"no bias of this base, its change left out: {lost[0]} ({len(lost)} layers)"] if lost else []


def _check_room(path: Path, out: Path) -> None:
    files = path.rglob("*") if path.is_dir() else [path]
    needed = sum(file.stat().st_size for file in files if file.is_file())
    place = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed + SPARE:
        problem = f"the result takes {needed / 2**30:.1f} GB and {free / 2**30:.1f} GB are free"
        raise UserError(problem, str(place), "Free some space, or write to another disk with --out.")


def _copy_folder(path: Path, out: Path, layers: Layers, mix: _Mix, names: str, told: Told) -> list[str]:
    """Write a diffusers folder; other copies of the weights that are changed are left out and named."""
    changed = {layers.places[module].file for module in mix.stems}
    stale = [file for file in path.rglob("*") if file.is_file() and _is_stale(file, changed, layers)]
    temporary = unfinished(out)
    try:
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            target = temporary / inside
            if not file.is_file() or file in stale or any(part.startswith(".") for part in inside.parts):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in changed:
                _copy_file(file, target, _by_tensor(mix, layers, file), mix, names, told)
            else:
                shutil.copyfile(file, target)
        temporary.rename(out)
    except OSError as error:
        raise storage_error(error, out) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    listed = ", ".join(str(file.relative_to(path)) for file in stale[:3])
    return [f"other copies of the base's weights were not taken over: {listed} ({len(stale)} files)"] if stale else []


def _is_stale(file: Path, changed: set[Path], layers: Layers) -> bool:
    """Whether a file holds the same weights as one that is changed, in another form."""
    used = {place.file for place in layers.places.values()}
    beside = any(file.parent == one.parent for one in changed)
    index = any(one.name.startswith(file.name.partition(".")[0]) for one in used) and file.name.endswith("index.json")
    sharded = index and len([one for one in used if one.parent == file.parent]) > 1
    return beside and file not in used and file.name.endswith(OTHER_WEIGHTS) and not sharded


def _copy_file(path: Path, target: Path, changes: Changes, mix: _Mix, names: str, told: Told) -> None:
    """Write a safetensors file with the same tensors in the same order, some of them changed."""
    header = read_header(path)
    with path.open("rb") as old, target.open("wb") as new, safe_open(path, "pt") as tensors:
        new.write(_header_bytes(header, names))
        for index, (name, info) in enumerate(header.tensors.items()):
            told(f"merging into {path.name}", index, len(header.tensors))
            begin, end = info.offsets
            if name in changes:
                tensor = _changed(tensors.get_tensor(name), changes[name], mix)
                new.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
            else:
                old.seek(header.body_start + begin)
                _copy_bytes(old, new, end - begin)
        told(f"merging into {path.name}", len(header.tensors), len(header.tensors))


def _header_bytes(header: Header, names: str) -> bytes:
    metadata = {key: value for key, value in header.metadata.items() if key not in STALE}
    metadata["modelspec.merged_from"] = ", ".join(filter(None, (metadata.get("modelspec.merged_from", ""), names)))
    metadata.setdefault("format", "pt")
    content: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    for name, info in header.tensors.items():
        content[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": list(info.offsets)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _changed(tensor: Tensor, spots: Sequence[Spot], mix: _Mix) -> Tensor:
    """A tensor of the base with the changes of the layers in it, in its own type."""
    whole = tensor.float()
    for place, module, what in spots:
        view = place.of(whole)
        view += mix.change(module, what, view.shape)
    stored = whole.to(tensor.dtype)
    if not torch.isfinite(stored).all():
        problem = f"{spots[0][0].name} gets values that {str(tensor.dtype).removeprefix('torch.')} cannot hold"
        raise UserError(problem, "--strength", "Take smaller strengths, or a base in fp32.")
    return stored


def _copy_bytes(old: BinaryIO, new: BinaryIO, count: int) -> None:
    while count:
        piece = old.read(min(PIECE, count))
        new.write(piece)
        count -= len(piece)
