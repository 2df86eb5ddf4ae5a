"""The tensor names of adapter files for Stable Diffusion 1.x, 2.x and SDXL.

Kohya's names (`lora_unet_...`, `lora_te_...`) are the ones that every client reads; they are the only ones written. For
SDXL that is SGM's block names and numbered text encoders: under diffusers' block names A1111 drops a layer, and SwarmUI
knows the file by one layer only. The reader also takes those, and the names of diffusers and PEFT.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from trainer.contract.catalog import ADAPTERS
from trainer.formats.sgm import sgm_paths

Role = str  # "down", "up", "alpha"; of other methods what stands behind the module's name
Module = tuple[str, str]  # part (`unet`, `text_encoder`, `text_encoder_2`), module path in that part

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"

SECOND = "text_encoder_2"  # the part that makes a model an SDXL
_TEXT_MODEL, _PROJECTION = "text_model.", "text_projection"
_WRITTEN = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
_WRITTEN_SDXL = {"unet": "lora_unet_", "text_encoder": "lora_te1_", SECOND: "lora_te2_"}
# What may stand before a path, dots as underscores. PEFT saves a model by itself, without saying which it is.
_READ = {
    "unet": ("lora_unet_", "lycoris_", "unet_", ""),
    "text_encoder": ("lora_te_", "lora_te1_", "text_encoder_", ""),  # some trainers number the encoder of an SD 1.x too
    SECOND: ("lora_te2_", "text_encoder_2_"),
}
_ROLES: dict[str, Role] = {
    DOWN: "down",
    UP: "up",
    ALPHA: "alpha",
    ".lora_A.weight": "down",  # PEFT, and diffusers since 0.22
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",  # a PEFT state dict with the adapter's name left in
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",  # diffusers before that
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
}
_KRON = {"alpha", "lokr_t2"}
# What a layer's update needs, method by method -> what may stand beside it.
_WHOLE: tuple[tuple[frozenset[Role], frozenset[Role]], ...] = tuple(
    (frozenset(needed), frozenset(beside))
    for needed, beside in (
        ({"down", "up"}, {"alpha", "dora_scale"}),
        ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, {"alpha", "hada_t1", "hada_t2"}),
        ({"lokr_w1", "lokr_w2"}, _KRON),
        ({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}, _KRON),
        ({"lokr_w1_a", "lokr_w1_b", "lokr_w2"}, _KRON),
        ({"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}, _KRON),
        ({"oft_blocks"}, {"alpha", "rescale"}),
    )
)
_OTHERS = frozenset().union(*(needed | beside for needed, beside in _WHOLE)) - {"down", "up", "alpha"}
_PROCESSOR = re.compile(r"\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$")  # the oldest form of diffusers


@dataclass(frozen=True)
class Matched:
    """The tensors of a file, resolved to the modules of a model.

    Attributes:
        modules: kohya name of a module -> (part, module path in that part); only modules with all they need.
        roles: tensor name -> (kohya name of its module, what it is there).
        unmatched: tensor names that no module takes; what they hold is not used.
    """

    modules: dict[str, Module]
    roles: dict[str, tuple[str, Role]]
    unmatched: tuple[str, ...]


def module_names(modules: Mapping[str, Collection[str]]) -> dict[Module, str]:
    """Return (part, module path) -> kohya name.

    Args:
        modules: part -> paths of all its modules in diffusers or transformers: names count what comes before. A model
            with a part `text_encoder_2` is an SDXL, whichever parts the adapter is on.

    Raises:
        KeyError: a part of another name.
    """
    written = _WRITTEN_SDXL if SECOND in modules else _WRITTEN
    return {
        (part, path): written[part] + _flat(spellings[0]) for (part, path), spellings in _spellings(modules).items()
    }


def match(names: Iterable[str], modules: Mapping[str, Collection[str]]) -> Matched:
    """Resolve the tensor names of a file to the modules of a given model.

    Args:
        names: all tensor names of the file, in any of the forms known.
        modules: part -> paths of all its linear and convolutional layers, as in `module_names`.
    """
    written = module_names(modules)
    known = _known(modules, written)
    roles: dict[str, tuple[str, Role]] = {}
    held: dict[tuple[str, Role], str] = {}
    unmatched = []
    for name in names:
        place = _place(name, known)
        if place is None or place in held:
            unmatched.append(name)
        else:
            roles[name] = place
            held[place] = name
    # Half a module has no effect, so its tensors are reported with the rest.
    found: dict[str, set[Role]] = {}
    for module, role in held:
        found.setdefault(module, set()).add(role)
    used = {module: used_of(there) for module, there in found.items()}
    unmatched += [name for name, (module, role) in roles.items() if role not in used[module]]
    roles = {name: place for name, place in roles.items() if place[1] in used[place[0]]}
    targets = {name: module for module, name in written.items()}
    return Matched({name: targets[name] for name, _ in roles.values()}, roles, tuple(unmatched))


def used_of(found: Collection[Role]) -> frozenset[Role]:
    """What of a module's tensors makes its update: of one method only; nothing where some are missing."""
    there = set(found)
    return next((needed | beside for needed, beside in _WHOLE if needed <= there), frozenset())


def method_of(roles: Iterable[Role]) -> str:
    """Which method's tensors these are, by what stands behind their modules' names."""
    found = tuple(roles)
    marked = (name for name, row in ADAPTERS.items() if row.mark and any(role.startswith(row.mark) for role in found))
    return next(marked, "lora")


def split_name(name: str) -> tuple[str, Role] | None:
    """Return (what stands before the suffix, role) of an adapter tensor's name, or None for any other name."""
    old = _PROCESSOR.search(name)
    if old:
        layer = "to_out.0" if old[1] == "out" else f"to_{old[1]}"
        return f"{name[: old.start()]}.{layer}", "down" if old[2] == "down" else "up"
    for suffix, role in _ROLES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), role
    stem, _, role = name.rpartition(".")
    return (stem, role) if role in _OTHERS else None


def _place(name: str, known: Mapping[str, str]) -> tuple[str, Role] | None:
    """Return (kohya name of the module, role) of one tensor, or None where nothing known takes it."""
    found = split_name(name)
    module = known.get(_flat(found[0].removeprefix("base_model.model."))) if found else None
    return (module, found[1]) if found and module else None


def _known(modules: Mapping[str, Collection[str]], written: Mapping[Module, str]) -> dict[str, str]:
    """Return every form of a module's name, dots as underscores -> its kohya name."""
    known: dict[str, str] = {}
    for module, spellings in _spellings(modules).items():
        for spelling in spellings:
            for before in _READ[module[0]]:
                known.setdefault(before + _flat(spelling), written[module])
    return known


def _spellings(modules: Mapping[str, Collection[str]]) -> dict[Module, tuple[str, str]]:
    """Return the two forms of each module's path that are in use, first the one that is written."""
    sgm = sgm_paths(modules.get("unet", ())) if SECOND in modules else {}
    return {
        (part, path): (sgm.get(path, path), path) if part == "unet" else _text_spellings(path)
        for part, paths in modules.items()
        for path in paths
    }


def _text_spellings(path: str) -> tuple[str, str]:
    """Return the path with `text_model.` and without it.

    Files have it; in transformers 5 CLIPTextModel's modules do not, those of CLIPTextModelWithProjection still do.
    """
    bare = path.removeprefix(_TEXT_MODEL)
    return (bare if bare.startswith(_PROJECTION) else _TEXT_MODEL + bare), bare


def _flat(path: str) -> str:
    return path.replace(".", "_")
