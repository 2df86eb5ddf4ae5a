"""Changes of layers to a LoRA file, and how far the file is from what was wanted: measured on the numbers in it."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from trainer.adapters.read import Update
from trainer.adapters.tensors import is_finite
from trainer.contract.errors import UserError
from trainer.contract.files import storage_error, write_atomic
from trainer.device import DTYPES
from trainer.export.kohya import FILLED, affordable, balanced, filled_up, usual_rank
from trainer.export.svd import compare, relative
from trainer.formats.clients.pipelines import even_ranks
from trainer.formats.kohya import ALPHA, DOWN, UP
from trainer.formats.metadata import sign
from trainer.formats.parameters import decimal_text
from trainer.formats.peft_file import rank_patterns

A, B = ".lora_A.weight", ".lora_B.weight"  # PEFT's names for down and up; a file of them has no alpha
_DOWN, _UP = DOWN.strip("."), UP.strip(".")
Wanted = Callable[[str], Update | Tensor]
Told = Callable[[str, int, int], None]  # what is done, how much of it, of how much
Made = TypeVar("Made")


@dataclass(frozen=True)
class LayerError:
    """A layer of a file: its name, its rank, its relative Frobenius error."""

    name: str
    rank: int
    error: float


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        file: its path.
        bytes: its size.
        dtype: its number type.
        ranks: smallest and largest rank of a layer.
        error: relative Frobenius error of all changes together.
        largest_error: of a single layer.
        at: that layer.
        layers: all of them.
        notices: what a person should know.
    """

    file: str
    bytes: int
    dtype: str
    ranks: tuple[int, int]
    error: float
    largest_error: float
    at: str
    layers: tuple[LayerError, ...]
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def each(names: Iterable[str], work: Callable[[str], Made], what: str, told: Told) -> dict[str, Made]:
    """Work on layers, as many at a time as there are cores: a layer alone is too small for several.

    Args:
        names: of the layers.
        work: on one of them.
        what: is done, in words.
        told: hears how far it is.
    """
    known, made = list(names), {}
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // torch.get_num_threads())) as pool:
        try:
            for index, (name, found) in enumerate(zip(known, pool.map(work, known), strict=True)):
                told(what, index, len(known))
                made[name] = found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return made


def evened(updates: Mapping[str, Update]) -> dict[str, int]:
    """Ranks that every release of diffusers scales as it should; larger ones are filled up with zeros.

    Without alphas, as in PEFT's form, releases differ in how they scale a layer whose rank is not the most common one
    of its part. Ranks stay as they are where the zeros would be most of the file (`FILLED`).
    """
    ranks = ranks_of(updates)
    dotted, most = any("." in name for name in updates), Counter[str]()
    for name, rank in ranks.items():
        most[_part(name)] = max(most[_part(name)], rank)
    wanted = {name: most[_part(name)] for name in ranks} if dotted else ranks | even_ranks(ranks)
    sides = {name: len(update.up) + update.down[0].numel() for name, update in updates.items()}
    return wanted if affordable(ranks, wanted, sides) else ranks


def ranks_of(updates: Mapping[str, Update]) -> dict[str, int]:
    """Name of a module -> rank of its change."""
    return {name: len(update.down) for name, update in updates.items()}


def _part(name: str) -> str:
    return name.partition(".")[0]


def file_tensors(updates: Mapping[str, Update], ranks: Mapping[str, int], dtype: str) -> dict[str, Tensor]:
    """Name and cast changes: kohya's three tensors under names without dots, PEFT's two under names with them.

    All layers have one alpha, and `up` makes up for it (see `trainer.export.kohya`); where ranks of a UNet are evened
    and still differ, the rank.

    Args:
        updates: name of a module -> its change.
        ranks: of each in the file, as large or larger.
        dtype: fp16, bf16 or fp32.

    Raises:
        UserError: a value is not finite in that type.
    """
    tensors: dict[str, Tensor] = {}
    even, usual = even_ranks(ranks), usual_rank(ranks)
    by_rank = even if all(ranks[stem] == rank for stem, rank in even.items()) else {}
    for stem, update in updates.items():
        dotted, alpha = "." in stem, by_rank.get(stem, usual)
        down, up = filled_up(update.down, update.up, ranks[stem])
        held = balanced({_DOWN: down, _UP: up / (1.0 if dotted else alpha / len(down))})
        tensors[stem + (A if dotted else DOWN)] = cast(held[_DOWN], dtype, stem)
        tensors[stem + (B if dotted else UP)] = cast(held[_UP], dtype, stem)
        if not dotted:
            number = torch.tensor(float(alpha))
            stored = number.to(DTYPES[dtype])
            tensors[stem + ALPHA] = stored if stored == number else number
    return tensors


def cast(tensor: Tensor, dtype: str, name: str) -> Tensor:
    """Give a tensor the type of a file. Raises UserError for a value that the type cannot hold."""
    found = tensor.to(DTYPES[dtype]).cpu().contiguous()
    if not is_finite(found):
        fix = "Write fp32 (--dtype fp32), or take a smaller strength."
        raise UserError(f"{name} has values that {dtype} cannot hold", "--dtype", fix)
    return found


def read_back(tensors: Mapping[str, Tensor], stem: str) -> Update:
    """A layer's change as the file holds it."""
    if "." in stem:
        return Update(tensors[stem + A].float(), tensors[stem + B].float())
    down, up = tensors[stem + DOWN].float(), tensors[stem + UP].float()
    return Update(down, up * (float(tensors[stem + ALPHA]) / len(down)))


class Plan(NamedTuple):
    """A file to be written.

    Attributes:
        path: of it; what stands there is replaced.
        metadata: hashes aside.
        dtype: fp16, bf16 or fp32.
        beside: what it holds beside the changes of weights, by name: those of biases and norms.
        even: whether ranks are filled up where programs need it (`evened`); otherwise the file is smaller.
    """

    path: Path
    metadata: Mapping[str, str]
    dtype: str
    beside: Mapping[str, Tensor] = MappingProxyType({})
    even: bool = True


def write(plan: Plan, updates: Mapping[str, Update], wanted: Wanted, told: Told) -> Written:
    """Write a LoRA file and measure it.

    Args:
        plan: of the file.
        updates: name of a module -> what the file shall hold.
        wanted: name of a module -> what it is meant to be, as two factors or as a whole matrix.
        told: hears how far it is.

    Raises:
        UserError: a value is not finite in that type, or the file cannot be written.
    """
    path, metadata, dtype, beside, even = plan
    ranks = evened(updates) if even else ranks_of(updates)
    tensors = file_tensors(updates, ranks, dtype)
    layers, errors, energies = [], 0.0, 0.0
    found = each(updates, lambda stem: measure(read_back(tensors, stem), wanted(stem)), "measuring", told)
    for stem, (error, energy) in found.items():
        layers.append(LayerError(stem, ranks[stem], relative(error, energy)))
        errors, energies = errors + error, energies + energy
    told("writing", len(updates), len(updates))
    more = {name: cast(tensor, dtype, name) for name, tensor in beside.items()}
    put(path, sign(save(tensors | more, {**metadata, **_about_ranks(ranks, tensors)})))
    worst, least, most = max(layers, key=lambda layer: layer.error), min(ranks.values()), max(ranks.values())
    overall, size = relative(errors, energies), path.stat().st_size
    notices = tuple(_left_uneven(ranks)) if even else ()
    return Written(str(path), size, dtype, (least, most), overall, worst.error, worst.name, tuple(layers), notices)


def _about_ranks(ranks: Mapping[str, int], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What a file says of its alphas: the most common one; without any, as in PEFT's form, ranks that differ."""
    alphas = Counter(float(tensor) for name, tensor in tensors.items() if name.endswith(ALPHA))
    return {"ss_network_alpha": decimal_text(alphas.most_common(1)[0][0])} if alphas else rank_patterns(ranks)


def _left_uneven(ranks: Mapping[str, int]) -> Iterator[str]:
    """A sentence about ranks that filling up would have made too large a file of."""
    dotted = any("." in name for name in ranks)
    parts = Counter(part for part, _ in {(_part(name), rank) for name, rank in ranks.items()})
    if max(parts.values()) > 1 if dotted else any(ranks[stem] != rank for stem, rank in even_ranks(ranks).items()):
        low, high, releases = min(ranks.values()), max(ranks.values()), "before 0.34" if dotted else "0.32"
        yield (
            f"ranks from {low} to {high} were left so, as filling them up would make the file more than {FILLED} times "
            f"as large: diffusers {releases} scales some of these layers wrongly; with a smaller largest rank all can "
            "be alike (atelier resize --rank)"
        )


def measure(written: Update, wanted: Update | Tensor) -> tuple[float, float]:
    """Return energy of the error and energy of what is wanted."""
    if isinstance(wanted, Update):
        here = Update(written.down.to(wanted.down.device), written.up.to(wanted.up.device))
        return compare(here, wanted)
    made = written.up.to(wanted.device).flatten(1) @ written.down.to(wanted.device).flatten(1)
    flat = wanted.flatten(1)
    return float((flat - made).double().square().sum()), float(flat.double().square().sum())


def put(path: Path, blob: bytes) -> None:
    """Write a file, in a folder that is made for it. Raises UserError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    write_atomic(path, blob)


def refuse_existing(path: Path) -> None:
    """Raise UserError where something is in the place of a result."""
    if os.path.lexists(path):  # of a name that is too long it is not the one to tell
        raise UserError("there is something already; nothing is overwritten", str(path), "Give another --out.")
