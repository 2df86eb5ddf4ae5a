"""An adapter file by itself, module by module, as the tools for files take it: no base is loaded."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from trainer.adapters.foreign import change_of, changes_weight, lora_halves, needs_base, takes_factors
from trainer.adapters.read import Shift, Update, shift_of, with_config
from trainer.adapters.tensors import is_finite
from trainer.contract.errors import UserError
from trainer.export.bases import FAMILY_OF, Layers, base_layers, family_layers
from trainer.formats.header import Header, TensorInfo, read_header, shown
from trainer.formats.inspect import Inspection, inspect, place_of
from trainer.formats.kinds import kind_of, misfit
from trainer.formats.kohya import Module, Role, match
from trainer.formats.names import split_names
from trainer.formats.peft_config import PeftConfig, peft_config
from trainer.protocols import Target

NAMED = 3  # names that a notice lists
LARGEST = 2**28  # numbers of a layer; those of SDXL have 2**25 at most, those of Flux 2**26
_LEVELS = 8  # dots behind a module's name; a hostile one has thousands
WIDE = ("F16", "BF16", "F32")
STORED = {"F16": "fp16", "BF16": "bf16"}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Opened:
    """An adapter file.

    Attributes:
        path: of the file.
        header: its names, shapes and metadata.
        facts: what `inspect` says of it.
        modules: name of a module as the file has it, without suffix -> role -> name of the tensor.
        notices: what of the file is not used, as sentences.
        layers: of its model, where the base is given or the family is known.
        targets: name of a module -> (part, path) in that model.
        config: what is said of its alphas beside its tensors.
        file: open, to read tensors from.
    """

    path: Path
    header: Header
    facts: Inspection
    modules: Mapping[str, Mapping[Role, str]]
    notices: tuple[str, ...]
    layers: Layers | None
    targets: Mapping[str, Module]
    config: PeftConfig
    file: Any = field(repr=False)

    @property
    def plain(self) -> bool:
        """Whether all that it changes of weights it changes by two small matrices, as a LoRA does."""
        return all(takes_factors(self.modules[stem]) for stem in self.weights)

    @property
    def weights(self) -> list[str]:
        """Its modules that change a layer's weight, and not only a bias or a norm."""
        return [stem for stem, roles in self.modules.items() if changes_weight(roles)]

    @property
    def stored(self) -> str:
        """The narrowest number type that holds all its numbers: fp16, bf16 or fp32."""
        found = {
            self.header.tensors[name].dtype
            for roles in self.modules.values()
            for role, name in roles.items()
            if role != "alpha"
        }
        return STORED.get(next(iter(found)), "fp32") if len(found) == 1 else "fp32"

    def tensors(self, stem: str) -> dict[Role, Tensor]:
        """Read a module's tensors, float32.

        Raises:
            UserError: a number in it is not finite.
        """
        held = {role: self.file.get_tensor(name).float() for role, name in self.modules[stem].items()}
        if not all(map(is_finite, held.values())):
            problem = f"{shown(stem)} holds numbers that are not finite; pictures made with it are black or noise"
            raise UserError(problem, str(self.path), "Take an earlier epoch of it, or download it again.")
        return held

    def told(self, stem: str) -> Mapping[Role, Tensor]:
        """A module's tensors, with the alpha that a config beside them tells."""
        return with_config(self.tensors(stem), Target(*self.targets.get(stem, place_of(stem))), self.config)

    def change(self, stem: str, device: torch.device) -> Update | Tensor:
        """What a module adds to its layer's weight: two factors of a LoRA, otherwise all of it: [O, I, k...], float32.

        Raises:
            UserError: it cannot be told without the base, or does not fit it.
        """
        held = {role: tensor.to(device) for role, tensor in self.told(stem).items()}
        if takes_factors(held):
            return Update(*lora_halves(held, torch.empty(self._shape(stem), device="meta")))
        return change_of(held, self._base_weight(stem).to(device))

    def whole(self, stem: str, device: torch.device) -> Tensor:
        """The same as one matrix, whatever it is made of."""
        change = self.change(stem, device)
        if isinstance(change, Tensor):
            return change
        return (change.up.flatten(1) @ change.down.flatten(1)).view(len(change.up), *change.down.shape[1:])

    def shift(self, stem: str) -> Shift | None:
        """What a module adds to its layer's bias, or to a norm; None for nothing."""
        return shift_of(self.told(stem))

    def _infos(self, stem: str) -> dict[Role, TensorInfo]:
        return {role: self.header.tensors[name] for role, name in self.modules[stem].items()}

    def _shape(self, stem: str) -> tuple[int, ...]:
        """The shape of a LoRA's layer: the model's, where it has such a one, otherwise as its own matrices have it."""
        infos, target = self._infos(stem), self.targets.get(stem)
        known = self.layers.shapes.get(target) if self.layers and target else None
        return own_shape(infos) if known is None or misfit(infos, known) else known

    def _base_weight(self, stem: str) -> Tensor:
        """The layer's weight, or one of its sizes where only those count."""
        target, roles = self.targets.get(stem), self.modules[stem]
        if self.layers is None or target is None:
            problem = f"{self.facts.method} cannot be worked out here: nothing tells which layer {stem} is"
            raise UserError(problem, str(self.path), "Give the base it was trained on with --base.")
        if reason := misfit(self._infos(stem), self.layers.shapes[target]):
            problem = f"{stem} does not fit this base: {reason}"
            raise UserError(problem, str(self.path), "Give the base it was trained on.")
        return self.layers.weight(target) if needs_base(roles) else torch.zeros(self.layers.shapes[target])


def own_shape(infos: Mapping[Role, TensorInfo]) -> tuple[int, ...]:
    """The shape of the weight that a LoRA's matrices are for, as they are stored."""
    up, down = infos["up"].shape, infos["down"].shape
    return (up[0], down[1], *infos["mid"].shape[2:]) if "mid" in infos else (up[0], *down[1:])


@contextmanager
def opened(path: Path, base: str = "") -> Iterator[Opened]:
    """Open an adapter file.

    Args:
        path: of the file.
        base: its base model; "" where it is to be told from the file.

    Raises:
        UserError: it is no sound safetensors file, or holds no adapter.
    """
    header = read_header(path)
    facts = inspect(path, header=header)
    modules, notices = _modules(header)
    if not modules:
        problem = "; ".join(("there is no adapter in this file that can be used", *notices))
        raise UserError(problem, str(path), "Give a LoRA, or another of docs/reading.md.")
    layers = _checked(base_layers(base), facts, base) if base else family_layers(facts.family)
    targets: dict[str, Module] = {}
    if layers:
        names = {name: stem for stem, roles in modules.items() for name in roles.values()}
        matched = match(names, layers.paths)
        targets = {names[name]: matched.modules[kohya] for name, (kohya, _) in matched.roles.items()}
        notices = (*notices, *_other_sizes(modules, targets, header, layers))
    with safe_open(path, "pt") as file:
        config = peft_config(path, header.metadata)
        yield Opened(path, header, facts, modules, notices, layers, targets, config, file)


def _checked(layers: Layers, facts: Inspection, base: str) -> Layers:
    """Raise UserError where a base is of another family than an adapter is for."""
    said = FAMILY_OF.get(facts.family)
    if layers.source and said not in (None, layers.source.facts.family):
        problem = f"{facts.file} is for {facts.family}, and '{base}' is a {layers.source.facts.describe()}"
        raise UserError(problem, "--base", "Give the base it was trained on.")
    return layers


def _modules(header: Header) -> tuple[dict[str, dict[Role, str]], tuple[str, ...]]:
    """The modules whose tensors are all understood, and sentences about the others."""
    found: dict[str, dict[Role, str]] = {}
    strange: list[str] = []
    for name, split in split_names(header.tensors).items():
        if split is None or split[1] in found.get(split[0], {}):
            strange.append(name)
        else:
            found.setdefault(split[0], {})[split[1]] = name
    # A tensor that is not understood changes what the others of its module mean: all of them are left out.
    spoilt = {stem for name in strange if (stem := _owner(name, found))}
    good = {stem: roles for stem, roles in found.items() if stem not in spoilt and _understood(roles, header)}
    lost = [*strange, *(name for stem in found.keys() - good.keys() for name in found[stem].values())]
    said = [f"not understood, or too large for any layer, and left out: {_listed(sorted(lost))}"] if lost else []
    return good, tuple(said)


def _owner(name: str, found: Mapping[str, object]) -> str | None:
    stems = (name.rsplit(".", level)[0] for level in range(1, _LEVELS))
    return next((stem for stem in stems if stem in found), None)


def _understood(roles: Mapping[Role, str], header: Header) -> bool:
    """Whether a module has all that its kind needs and nothing else; a LoRA's sizes have to go together too."""
    kind = kind_of(roles)
    if kind is None or set(roles) - kind.used:
        return False
    infos = {role: header.tensors[name] for role, name in roles.items()}
    if kind.name != "lora":
        return True
    up, down = infos["up"].shape, infos["down"].shape
    if min(len(up), len(down)) < 2 or ("mid" in infos and len(down) != len(infos["mid"].shape)):
        return False
    outputs, *inputs = own_shape(infos)
    if max(outputs, down[0] if "mid" in infos else 0) * math.prod(inputs) > LARGEST:  # small factors, a huge product
        return False
    return not misfit(infos, own_shape(infos))


def _listed(names: Sequence[str], what: str = "tensors") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(shown, names[:NAMED]))}{more} ({len(names)} {what})"


def _other_sizes(
    modules: Mapping[str, Mapping[Role, str]], targets: Mapping[str, Module], header: Header, layers: Layers
) -> Iterator[str]:
    """A sentence about modules whose layers are of other sizes in the model that the file is for."""
    odd = [
        stem
        for stem, target in targets.items()
        if misfit({role: header.tensors[name] for role, name in modules[stem].items()}, layers.shapes[target])
    ]
    if odd:
        yield f"of other sizes than its base's, so programs stop at it or pass it over: {_listed(odd, 'layers')}"
