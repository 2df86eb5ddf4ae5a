"""The tensor names of adapter files for Stable Diffusion 1.x, 2.x and SDXL.

Kohya's names (`lora_unet_...`, `lora_te_...`) are the ones that every client reads; they are the only ones written. For
SDXL that is SGM's block names and numbered text encoders: under diffusers' block names A1111 drops a layer, and SwarmUI
knows the file by one layer only. The reader also takes those, and the names of diffusers and PEFT.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from trainer.contract.catalog import ADAPTERS
from trainer.formats.kinds import Role, kind_of
from trainer.formats.names import Split, split_name, split_names
from trainer.formats.sgm import sgm_paths

__all__ = ["Matched", "Module", "Role", "match", "method_of", "module_names", "split_name", "used_of"]

Module = tuple[str, str]  # part (`unet`, `text_encoder`, `text_encoder_2`), module path in that part

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"

SECOND = "text_encoder_2"  # the part that makes a model an SDXL
_TEXT_MODEL, _PROJECTION = "text_model.", "text_projection"
_WRITTEN = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
_WRITTEN_SDXL = {"unet": "lora_unet_", "text_encoder": "lora_te1_", SECOND: "lora_te2_"}
# What may stand before a path, dots as underscores. PEFT saves a model by itself, without saying which it is.
_READ = {
    "unet": ("lora_unet_", "oft_unet_", "lycoris_", "lycoris_unet_", "unet_", "diffusion_model_",
             "model_diffusion_model_", "lora_unet_model_diffusion_model_", ""),
    "text_encoder": ("lora_te_", "lora_te1_", "lycoris_", "lycoris_text_encoder_", "lycoris_te_", "lycoris_te1_",
                     "text_encoder_", "clip_l_", "clip_h_", "text_encoders_clip_l_transformer_",
                     "text_encoders_clip_h_transformer_", "cond_stage_model_transformer_",
                     "conditioner_embedders_0_transformer_", ""),  # some number the encoder of an SD 1.x too
    SECOND: ("lora_te2_", "lycoris_te2_", "lycoris_text_encoder_2_", "text_encoder_2_", "clip_g_",
             "text_encoders_clip_g_transformer_"),
}  # fmt: skip
_PEFT = "base_model.model."


@dataclass(frozen=True)
class Matched:
    """The tensors of a file, resolved to the modules of a model.

    Attributes:
        modules: kohya name of a module -> (part, module path in that part); only modules with all they need.
        roles: tensor name -> (kohya name of its module, what it is there).
        unmatched: tensor names that no module takes; what they hold is not used.
        halves: those of them whose module there is: parts are missing, or it does not take them beside the others.
    """

    modules: dict[str, Module]
    roles: dict[str, tuple[str, Role]]
    unmatched: tuple[str, ...]
    halves: tuple[str, ...] = ()


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


def match(names: Iterable[str], modules: Mapping[str, Collection[str]], split: Split | None = None) -> Matched:
    """Resolve the tensor names of a file to the modules of a given model.

    Args:
        names: all tensor names of the file, in any of the forms known.
        modules: part -> paths of all its linear and convolutional layers, as in `module_names`.
        split: the names as `split_names` takes them apart, where that is done already.
    """
    targets, known = _known(tuple((part, tuple(paths)) for part, paths in modules.items()))
    roles: dict[str, tuple[str, Role]] = {}
    held: dict[tuple[str, Role], str] = {}
    unmatched = []
    for name, place in _places(split_names(names) if split is None else split, known):
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
    halves = tuple(name for name, (module, role) in roles.items() if role not in used[module])
    roles = {name: place for name, place in roles.items() if place[1] in used[place[0]]}
    return Matched({name: targets[name] for name, _ in roles.values()}, roles, (*unmatched, *halves), halves)


def used_of(found: Collection[Role]) -> frozenset[Role]:
    """What of a module's tensors makes its update: of one kind only; nothing where some are missing."""
    kind = kind_of(found)
    return kind.used if kind else frozenset()


def method_of(roles: Iterable[Role]) -> str:
    """Which method's tensors these are, by what stands behind their modules' names."""
    found = tuple(roles)
    marked = (name for name, row in ADAPTERS.items() if row.mark and any(role.startswith(row.mark) for role in found))
    return next(marked, "lora")


def _places(split: Split, known: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, Role] | None]]:
    """Yield each name with (kohya name of the module, role), or None where nothing known takes it."""
    for name, found in split.items():
        module = known.get(_flat(found[0].replace(_PEFT, ""))) if found else None
        yield name, (module, found[1]) if found and module else None


@lru_cache(maxsize=8)  # a file is held against the same few models again and again
def _known(layout: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[Mapping[str, Module], Mapping[str, str]]:
    """Return kohya name -> module; and every form of a module's name, dots as underscores -> its kohya name."""
    modules = dict(layout)
    written = module_names(modules)
    known: dict[str, str] = {}
    for module, spellings in _spellings(modules).items():
        for spelling in spellings:
            for before in _READ[module[0]]:
                known.setdefault(before + _flat(spelling), written[module])
    return {name: module for module, name in written.items()}, known


def _spellings(modules: Mapping[str, Collection[str]]) -> dict[Module, tuple[str, str]]:
    """Return the two forms of each module's path that are in use, first the one that is written."""
    unet = _sgm(modules.get("unet", ()), SECOND in modules)
    written_so = SECOND in modules
    return {
        (part, path): _unet_spellings(path, unet, written_so) if part == "unet" else _text_spellings(path)
        for part, paths in modules.items()
        for path in paths
    }


def _sgm(paths: Collection[str], needed: bool) -> dict[str, str]:
    """SGM's paths of a UNet's modules; {} for a part of a UNet, which has none, where they are not needed."""
    try:
        return sgm_paths(paths)
    except KeyError:
        if needed:
            raise
        return {}


def _unet_spellings(path: str, sgm: Mapping[str, str], written_so: bool) -> tuple[str, str]:
    other = sgm.get(path, path)
    return (other, path) if written_so else (path, other)


def _text_spellings(path: str) -> tuple[str, str]:
    """Return the path with `text_model.` and without it.

    Files have it; in transformers 5 CLIPTextModel's modules do not, those of CLIPTextModelWithProjection still do.
    """
    bare = path.removeprefix(_TEXT_MODEL)
    return (bare if bare.startswith(_PROJECTION) else _TEXT_MODEL + bare), bare


def _flat(path: str) -> str:
    return path.replace(".", "_")
