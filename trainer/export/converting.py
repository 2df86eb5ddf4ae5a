"""The tool that writes the same adapter anew: under other names, in another number type, or as a plain LoRA."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from trainer.adapters.foreign import NAMES, alpha_of, moves
from trainer.adapters.read import Update, shift_of
from trainer.contract.errors import UserError
from trainer.contract.tools import ConvertRequest
from trainer.export.opened import CPU, Opened, opened
from trainer.export.resizing import device_of, largest, matrices, origin, plain, shifts
from trainer.export.written import Plan, Told, Written, cast, each, put, refuse_existing, write
from trainer.formats.derived import derived, renamed
from trainer.formats.kinds import LENGTHS, ROWS, SHIFT, UP_BIAS
from trainer.formats.kohya import Module, module_names
from trainer.formats.metadata import sign

ENDINGS = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight",
           **{name: f"{name}.weight" for name in ("a1", "a2", "b1", "b2")}}  # fmt: skip


def convert(request: ConvertRequest, told: Told) -> Written:
    """Write the same adapter under other names, in another number type, or as a plain LoRA.

    Raises:
        UserError: a layer's name is not known, or see `opened`, `write`.
    """
    out = Path(request.out)
    refuse_existing(out)
    with opened(Path(request.file), request.base) as source:
        dtype = request.dtype if request.dtype != "auto" else source.stored
        device = device_of(request.device, not source.plain)
        if request.to == "lora":
            return _to_lora(source, request, out, dtype, device, told)
        names, lost = _names(source, request.to)
        words = f"names of {request.to}, {dtype}"
        if not source.plain:
            return _as_it_is(source, names, request, out, dtype, told)
        originals = _weights(source, names)
        made = {name: source.change(stem, CPU) for name, stem in originals.items()}
        updates = {name: change for name, change in made.items() if isinstance(change, Update)}
        metadata = renamed(origin(source), words, out) | _network(largest(updates))
        beside = shifts([(source, 1.0, names)]) if request.to == "kohya" else {}
        done = write(
            Plan(out, metadata, dtype, beside), updates, lambda name: source.change(originals[name], CPU), told
        )
        return replace(done, notices=(*source.notices, *lost, *(() if beside else _unshifted(source)), *done.notices))


def _weights(source: Opened, names: Mapping[str, str]) -> dict[str, str]:
    """Name in the result -> name in the file, of the modules that change weights. Raises UserError where none does."""
    weights = set(matrices(source))
    return {name: stem for stem, name in names.items() if stem in weights}


def _unshifted(source: Opened) -> list[str]:
    """A sentence about biases and norms that a plain LoRA has no place for."""
    lost = sorted(stem for stem, roles in source.modules.items() if moves(roles))
    return [f"changes of biases and norms are left out: {lost[0]} ({len(lost)} layers)"] if lost else []


def _to_lora(
    source: Opened, request: ConvertRequest, out: Path, dtype: str, device: torch.device, told: Told
) -> Written:
    names, lost = _names(source, "kohya")
    originals = _weights(source, names)

    def two_factors(name: str) -> Update:
        wanted = source.change(originals[name], device)
        return wanted if isinstance(wanted, Update) else plain(wanted, request.rank)

    made = each(originals, two_factors, "taking apart", told)
    metadata = derived([origin(source)], f"plain LoRA of a {source.facts.method}", out, largest(made))
    plan = Plan(out, metadata, dtype, even=source.plain or request.rank is not None)
    done = write(plan, made, lambda name: source.change(originals[name], device), told)
    return replace(done, notices=(*source.notices, *lost, *_unshifted(source), *done.notices))


def _as_it_is(
    source: Opened, names: Mapping[str, str], request: ConvertRequest, out: Path, dtype: str, told: Told
) -> Written:
    """Another method's file under kohya's names: diffusers has none for them."""
    if request.to != "kohya":
        problem = f"diffusers cannot load a {source.facts.method} file"
        raise UserError(problem, "--to", "Make a plain LoRA of it first: --to lora. That one can be converted.")
    told("writing", 0, 1)
    tensors = {}
    for stem, name in names.items():
        for role, tensor in _as_kohya(source, stem).items():
            small = cast(tensor, dtype, f"{stem}.{role}")
            # An alpha that the type cannot hold exactly changes the whole layer.
            exact = role == "alpha" and small.float() != tensor
            tensors[f"{name}.{ENDINGS.get(role, role)}"] = tensor.contiguous() if exact else small
    metadata = renamed(origin(source), f"names of {request.to}, {dtype}", out)
    put(out, sign(save(tensors, metadata)))
    ranks = source.facts.ranks or (0,)
    return Written(str(out), out.stat().st_size, dtype, (min(ranks), max(ranks)), 0.0, 0.0, "", (), source.notices)


def _as_kohya(source: Opened, stem: str) -> dict[str, Tensor]:
    """A module's tensors by the roles that kohya's and LyCORIS' files have: with an alpha, and PEFT's own rewritten."""
    held = dict(source.told(stem))
    if "oft_R" in held:
        problem = f"{stem} is PEFT's OFT, which turns inputs: no other program's files can say that"
        raise UserError(problem, "--to", "Make a plain LoRA of it: --to lora.")
    if "alpha" not in held and (rank := alpha_of({NAMES.get(role, role): one for role, one in held.items()})):
        held["alpha"] = torch.tensor(rank)
    if ROWS in held:
        held[LENGTHS] = held.pop(ROWS).reshape(-1, *[1] * (held["up"].dim() - 1))
    if UP_BIAS in held and (shift := shift_of(held)) and shift.bias is not None:
        held[SHIFT] = shift.bias
        held.pop(UP_BIAS)
    return held


def _names(source: Opened, to: str) -> tuple[dict[str, str], list[str]]:
    """Name of a module in the file -> name in the result; and sentences about those without one."""
    if source.layers is None:
        if to == "kohya" and source.facts.format == "kohya":
            return {stem: stem for stem in source.modules}, []
        problem = "the file does not tell which model its layers are of, and their names depend on it"
        raise UserError(problem, str(source.path), "Give the base it was trained on with --base.")
    written: Mapping[Module, str] = module_names(source.layers.paths)
    if to == "diffusers":
        written = {(part, path): f"{part}.{_with_text_model(part, path)}" for part, path in written}
    known = {stem: written[source.targets[stem]] for stem in source.modules if stem in source.targets}
    if not known:
        fix = "Give the base it was trained on with --base."
        raise UserError("nothing in this file fits the base model", str(source.path), fix)
    lost = sorted(source.modules.keys() - known.keys())
    return known, [f"no layer of the base, left out: {lost[0]} ({len(lost)} layers)"] if lost else []


def _with_text_model(part: str, path: str) -> str:
    """As files have it, whatever the version of transformers calls its modules."""
    if part == "unet" or path.startswith(("text_model.", "text_projection")):
        return path
    return f"text_model.{path}"


def _network(rank: int) -> dict[str, str]:
    return {"ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
