"""The tools that make an adapter file of adapter files: another rank, a sum of several."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.adapters.foreign import changes_weight, moves, takes_factors
from trainer.adapters.read import Update
from trainer.contract.errors import UserError
from trainer.contract.tools import MergeRequest, ResizeRequest
from trainer.device import preferred_device
from trainer.export.opened import CPU, Opened, opened
from trainer.export.svd import energies, rank_for, side_by_side, take_apart, take_whole_apart
from trainer.export.written import Plan, Told, Written, each, refuse_existing, write
from trainer.formats.derived import Origin, derived
from trainer.formats.inspect import UNKNOWN
from trainer.formats.kohya import module_names

CLOSE = 0.04  # relative error that a plain LoRA may have where no rank is asked for
MOST = 128  # rank that it gets at most


def device_of(asked: str, whole: bool) -> torch.device:
    """Where matrices are taken apart; see `ToolRequest`.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no graphics card that torch can use here", "--device", "Use --device cpu.")
    if asked == "auto":
        return preferred_device() if whole else CPU
    return torch.device(asked)


def resize(request: ResizeRequest, told: Told) -> Written:
    """Write an adapter with another rank.

    Raises:
        UserError: see `opened`, `write`; or nothing would change.
    """
    out = Path(request.out)
    refuse_existing(out)
    with opened(Path(request.file), request.base) as source:
        device, weights = device_of(request.device, not source.plain), matrices(source)
        made = each(
            weights,
            lambda stem: _resized(source, stem, device, request.rank, request.energy),
            "taking apart",
            told,
        )
        words = f"resized to rank {request.rank}" if request.rank else f"resized to {request.energy:.4g} of its energy"
        metadata = derived([origin(source)], words, out, largest(made))
        dtype = request.dtype if request.dtype != "auto" else source.stored
        beside = shifts([(source, 1.0, {stem: stem for stem in source.modules})])
        plan = Plan(out, metadata, dtype, beside, even=request.energy is None)  # by energy the file is to be small
        done = write(plan, made, lambda stem: source.change(stem, device), told)
        return replace(done, notices=(*source.notices, *done.notices))


def matrices(source: Opened) -> list[str]:
    """The modules of a file that change weights. Raises UserError where none does."""
    if not source.weights:
        problem = "this file changes biases and norms only, and has no matrices"
        raise UserError(problem, str(source.path), "It can be merged into a base, or used as it is.")
    return source.weights


def _resized(source: Opened, stem: str, device: torch.device, rank: int | None, energy: float | None) -> Update:
    change = source.change(stem, device)
    if isinstance(change, Update):
        if rank is not None and rank >= len(change.down):
            return change
        parts = take_apart(change)
        return parts.cut(rank or rank_for(energies(parts.values), energy or 1.0))
    parts = take_whole_apart(change, min(rank or MOST, *change.flatten(1).shape))
    return parts.cut(rank or _rank_of(parts.values, change, energy or 1.0))


def _rank_of(values: Tensor, change: Tensor, share: float) -> int:
    return rank_for(energies(values), share, float(change.double().square().sum()))


def plain(change: Tensor, rank: int | None) -> Update:
    """A whole change as two factors: of a rank at most, or within `CLOSE` of it, up to rank `MOST`."""
    most = min(rank or MOST, *change.flatten(1).shape)
    parts = take_whole_apart(change, most)
    return parts.cut(most if rank else _rank_of(parts.values, change, 1 - CLOSE**2))


def merge(request: MergeRequest, told: Told) -> Written:
    """Write the sum of adapters as one file.

    Raises:
        UserError: they are of different bases, of layers that do not go together, or see `opened`, `write`.
    """
    out = Path(request.out)
    refuse_existing(out)
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(Path(one.file), request.base)) for one in request.adapters]
        notices = [*check_together(sources), *(f"{one.path.name}: {line}" for one in sources for line in one.notices)]
        whole = not all(source.plain for source in sources)
        if whole and request.rank is None:
            odd = next(source for source in sources if not source.plain)
            problem = f"{odd.path.name} is a {odd.facts.method}, and ranks can be put side by side of plain LoRAs only"
            raise UserError(problem, "--rank", "Give a rank to merge to by SVD, or convert it first: --to lora.")
        device = device_of(request.device, whole)
        names, left_out = together(sources)
        strengths = [one.strength for one in request.adapters]
        wanted = _Sum(sources, strengths, names, device)
        if not wanted.stems:
            problem = "nothing in these files fits their base, or they change biases and norms only"
            raise UserError(problem, "merge", "See atelier inspect; give the base with --base, or merge --into it.")
        made = each(wanted.stems, lambda name: _merged(wanted(name), request.rank), "merging", told)
        origins = [origin(one, weight.strength) for one, weight in zip(sources, request.adapters, strict=True)]
        words = f"merged by SVD to rank {request.rank}" if request.rank else "merged, ranks side by side"
        metadata = derived(origins, words, out, largest(made))
        dtype = request.dtype if request.dtype != "auto" else _widest(source.stored for source in sources)
        beside = shifts(list(zip(sources, strengths, names, strict=True)))
        done = write(Plan(out, metadata, dtype, beside), made, wanted, told)
        return replace(done, notices=(*notices, *left_out, *done.notices))


def shifts(sources: Sequence[tuple[Opened, float, Mapping[str, str]]]) -> dict[str, Tensor]:
    """What adapters add to biases and norms together, as tensors of a file in kohya's form.

    Args:
        sources: file, strength, and name of a module in it -> name in the result.
    """
    found: dict[str, Tensor] = {}
    for source, strength, names in sources:
        for stem, name in names.items():
            shift = source.shift(stem) if moves(source.modules[stem]) else None
            if shift is None:
                continue
            norm = not changes_weight(source.modules[stem]) and shift.weight is not None
            for ending, tensor in (("w_norm", shift.weight), ("b_norm" if norm else "diff_b", shift.bias)):
                if tensor is not None:
                    key = f"{name}.{ending}"
                    found[key] = found.get(key, 0.0) + strength * tensor
    return found


def _merged(wanted: Update | Tensor, rank: int | None) -> Update:
    if not isinstance(wanted, Update):
        return plain(wanted, rank)
    return wanted if rank is None or rank >= len(wanted.down) else take_apart(wanted).cut(rank)


class _Sum:
    """What the sum of adapters adds to a layer, by the layer's name: two factors, or a matrix where one is no LoRA."""

    def __init__(
        self, sources: Sequence[Opened], strengths: Sequence[float], names: Sequence[Mapping[str, str]],
        device: torch.device,
    ) -> None:  # fmt: skip
        self.sources, self.strengths, self.device = sources, strengths, device
        self.stems: dict[str, list[tuple[int, str]]] = {}
        for index, renaming in enumerate(names):
            for stem, name in renaming.items():
                if changes_weight(sources[index].modules[stem]):
                    self.stems.setdefault(name, []).append((index, stem))

    def __call__(self, name: str) -> Update | Tensor:
        found = [(self.sources[index], stem, self.strengths[index]) for index, stem in self.stems[name]]
        try:
            if all(takes_factors(source.modules[stem]) for source, stem, _ in found):
                changes = (source.change(stem, self.device) for source, stem, _ in found)
                updates = [change for change in changes if isinstance(change, Update)]
                return side_by_side([_like(one, updates[0]) for one in updates], [strength for *_, strength in found])
            wholes = [source.whole(stem, self.device) * strength for source, stem, strength in found]
            return torch.stack([whole.view_as(wholes[0]) for whole in wholes]).sum(0)
        except RuntimeError as error:  # torch's, for sizes that do not go together
            files = ", ".join(source.path.name for source, *_ in found)
            problem = f"the adapters' matrices of {name} have different sizes: {str(error).splitlines()[0][:120]}"
            raise UserError(problem, files, "Merge adapters of the same base only.") from error


def _like(update: Update, first: Update) -> Update:
    """A change with its factors in the shape of another's: a layer may be linear in one file, 1 x 1 in another."""
    if update.down.dim() == first.down.dim():
        return update
    down = update.down.reshape(len(update.down), *first.down.shape[1:])
    return Update(down, update.up.reshape(*update.up.shape[:2], *[1] * (first.up.dim() - 2)))


def check_together(sources: Sequence[Opened]) -> list[str]:
    """Sentences about adapters that may not go together.

    Raises:
        UserError: they certainly do not.
    """
    families = {source.facts.family: source.path.name for source in sources if source.facts.family != UNKNOWN}
    if len(families) > 1:
        said = ", ".join(f"{name} is for {family}" for family, name in families.items())
        raise UserError(f"these adapters are for different kinds of base: {said}", "merge", "Merge those of one kind.")
    for key in ("modelspec.prediction_type", "ss_base_model_version"):
        found = {value: source.path.name for source in sources if (value := source.header.metadata.get(key))}
        if len(found) > 1:
            said = ", ".join(f"{name}: {value}" for value, name in found.items())
            raise UserError(f"these adapters are for different bases ({said})", "merge", "Merge those of one base.")
    bases = {value for source in sources if (value := source.header.metadata.get("ss_sd_model_name"))}
    text = f"they were trained on different bases of one kind ({', '.join(sorted(bases))}): look at what comes of it"
    return [text] if len(bases) > 1 else []


def together(sources: Sequence[Opened]) -> tuple[list[dict[str, str]], list[str]]:
    """Names under which the modules of several files are the same, and sentences about those that have none.

    Returns:
        For each file: name of a module in it -> name in the result.

    Raises:
        UserError: the files have different kinds of names, and the model is not known.
    """
    layers = next((source.layers for source in sources if source.layers), None)
    if layers is None:
        if len({source.facts.format for source in sources}) > 1:
            problem = "these files name their layers in different ways, and their base is not known"
            raise UserError(problem, "merge", "Give the base they were trained on with --base.")
        return [{stem: stem for stem in source.modules} for source in sources], []
    written = module_names(layers.paths)
    names, said = [], []
    for source in sources:
        known = {stem: written[source.targets[stem]] for stem in source.modules if stem in source.targets}
        if lost := sorted(source.modules.keys() - known.keys()):
            said.append(f"{source.path.name}: no layer of the base, left out: {lost[0]} ({len(lost)} layers)")
        names.append(known)
    return names, said


def origin(source: Opened, strength: float = 1.0) -> Origin:
    """A file that another is made of."""
    return Origin(source.facts, source.header.metadata, strength)


def largest(made: Mapping[str, Update]) -> int:
    """The largest rank."""
    return max(len(update.down) for update in made.values())


def _widest(types: Iterable[str]) -> str:
    found = set(types)
    return found.pop() if len(found) == 1 else "fp32"
