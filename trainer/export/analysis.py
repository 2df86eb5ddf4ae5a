"""How much of its rank an adapter uses, and what follows for the next training."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.adapters.read import Update
from trainer.contract.tools import AnalyzeRequest
from trainer.export.opened import Opened, opened
from trainer.export.resizing import MOST, device_of, matrices
from trainer.export.svd import energies, rank_for, take_apart, take_whole_apart
from trainer.export.written import Told, each
from trainer.formats.inspect import part_of

SHARES = (0.5, 0.9, 0.95, 0.99)
ENOUGH = 0.95  # of the energy: what is left out is seldom seen
RANKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # that people train with
FULL, ROOMY = 0.8, 0.5  # share of the rank that holds `ENOUGH`, from which and up to which something is advised
FAINT = 0.01  # share of the energy of a part that is hardly trained


@dataclass(frozen=True)
class LayerSpectrum:
    """A layer's change.

    Attributes:
        name: as the file has it.
        part: "unet", "text_encoder", "text_encoder_2" or "other".
        rank: of the file.
        needed: rank that holds 95 % of the energy.
        norm: Frobenius norm of the change at strength 1.
        kept: share of the energy in the largest singular value, the two largest, ...
    """

    name: str
    part: str
    rank: int
    needed: int
    norm: float
    kept: tuple[float, ...]


@dataclass(frozen=True)
class Analysis:
    """An adapter's use of its rank.

    Attributes:
        file: its path.
        method: as `inspect` has it.
        rank: the largest of a layer; 0 where its method has none.
        needed: share of the energy of all layers, such as 0.95 -> the rank of every layer that keeps it.
        kept: share of the energy of all layers that rank 1, 2, ... of every layer keeps.
        parts: part -> its share of the energy.
        advice: for the next training, as sentences.
        layers: all of them, the strongest first.
        notices: what was left out.
    """

    file: str
    method: str
    rank: int
    needed: dict[str, int]
    kept: tuple[float, ...]
    parts: dict[str, float]
    advice: tuple[str, ...]
    layers: tuple[LayerSpectrum, ...]
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def analyze(request: AnalyzeRequest, told: Told) -> Analysis:
    """Take every layer of an adapter apart.

    Raises:
        UserError: see `opened`.
    """
    with opened(Path(request.file), request.base) as source:
        device = device_of(request.device, not source.plain)
        pairs = each(matrices(source), lambda stem: _energies(source, stem, device), "taking apart", told)
        running, wholes = ({stem: pair[index] for stem, pair in pairs.items()} for index in (0, 1))
        layers = tuple(sorted(_spectra(running, wholes), key=lambda layer: -layer.norm))
        total = sum(wholes.values())
        longest = max(len(one) for one in running.values())
        kept = [sum(one[min(rank, len(one)) - 1] for one in running.values()) for rank in range(1, longest + 1)]
        parts: defaultdict[str, float] = defaultdict(float)
        for layer in layers:
            parts[layer.part] += layer.norm**2 / total if total else 0.0
        rank = max(source.facts.ranks, default=0)
        needed = {f"{share:g}": rank_for(kept, share, total) for share in SHARES}
        found = tuple(energy / total if total else 0.0 for energy in kept)
        advice = tuple(_advice(source, rank, needed[f"{ENOUGH:g}"], found, parts))
        method, notices = source.facts.method, source.notices
        return Analysis(str(source.path), method, rank, needed, found, dict(parts), advice, layers, notices)


def _energies(source: Opened, stem: str, device: Any) -> tuple[list[float], float]:
    """Energies of the largest singular values, and of all."""
    change = source.change(stem, device)
    if isinstance(change, Update):
        found = energies(take_apart(change).values)
        return found, found[-1]
    most = min(MOST, *change.flatten(1).shape)
    return energies(take_whole_apart(change, most).values), float(change.double().square().sum())


def _spectra(running: dict[str, list[float]], wholes: dict[str, float]) -> Iterator[LayerSpectrum]:
    for stem, found in running.items():
        whole = wholes[stem]
        kept = tuple(round(energy / whole, 6) if whole else 0.0 for energy in found)
        yield LayerSpectrum(stem, part_of(stem), len(found), rank_for(found, ENOUGH, whole), whole**0.5, kept)


def _advice(source: Opened, rank: int, needed: int, kept: Sequence[float], parts: dict[str, float]) -> Iterator[str]:
    if not sum(parts.values()):
        yield "All of its matrices are zero: it changes nothing, and was not trained."
        return
    if source.plain:
        yield f"This rank {rank} holds {ENOUGH:.0%} of its energy in rank {needed}."
        yield from _rank_advice(rank, needed, kept)
    else:
        held = kept[-1]
        reach = (
            f"rank {needed} of a plain LoRA holds {ENOUGH:.0%}" if held >= ENOUGH else f"rank {MOST} holds {held:.0%}"
        )
        yield f"Of what this {source.facts.method} changes, {reach}."
    texts = sum(share for part, share in parts.items() if part.startswith("text_encoder"))
    if 0 < texts < FAINT:
        yield (
            f"The text encoder's layers hold {texts:.2%} of the energy: without them (adapter.text_encoder=false) the "
            "file is smaller, trains faster, and loads the same in SD.Next."
        )


def _rank_advice(rank: int, needed: int, kept: Sequence[float]) -> Iterator[str]:
    smaller = next((usual for usual in RANKS if usual >= needed), rank)
    if needed <= rank * ROOMY and smaller < rank:
        lost = 1 - kept[smaller - 1]
        yield (
            f"For the next training rank {smaller} is enough (adapter.rank={smaller}); resizing this one to it leaves "
            f"out {lost:.1%} of its energy and makes the file {rank / smaller:.1f} times smaller."
        )
    elif needed > rank * FULL:
        larger = next((usual for usual in RANKS if usual > rank), 2 * rank)
        yield (
            f"Nearly all of the rank is used: where likeness or detail is lacking, try rank {larger} next "
            f"(adapter.rank={larger}); resizing this one would be seen."
        )
    else:
        yield f"The rank fits what was learnt: keep adapter.rank={rank}."
