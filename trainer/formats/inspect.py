"""What is in an adapter file, whoever wrote it: read from the header alone, nothing is loaded."""

import json
import math
import re
import struct
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from trainer.contract.catalog import ADAPTERS, FAMILIES
from trainer.formats.base_layers import PRACTICE, Given, closest_fit
from trainer.formats.fit import Fit, fit
from trainer.formats.header import Header, TensorInfo, body_sha256, read_header
from trainer.formats.kinds import Role, kind_of, title_of
from trainer.formats.kohya import method_of
from trainer.formats.names import split_names
from trainer.formats.peft_config import PeftConfig, peft_config

DEMO = "lora-atelier-demo"
SD1, SD2, SDXL = "Stable Diffusion 1.x", "Stable Diffusion 2.x", "SDXL"
UNKNOWN = "unknown"
_KIN = [row.title for name, row in ADAPTERS.items() if name != "lora"]

_VERSIONS = {DEMO: PRACTICE, "sdxl": SDXL, "sd_v2": SD2, "sd_v1": SD1}  # by beginning of ss_base_model_version
_ARCHITECTURES = {DEMO: PRACTICE, "stable-diffusion-xl": SDXL, "stable-diffusion-v2": SD2, "stable-diffusion-v1": SD1}
_FAMILIES = {SD1: "sd1", SD2: "sd2", SDXL: "sdxl"}
_CROSS_WIDTHS = {768: SD1, 1024: SD2, 1280: SDXL, 2048: SDXL}  # input of attn2's key and value, as Invoke reads it
_TEXT_WIDTHS = {768: SD1, 1024: SD2, 1280: SDXL}
_PARTS = {  # the first that is found in a module's name
    "text_encoder_2": re.compile(r"^(base_model\.model\.)?(lora_te2_|text_encoder_2\.|(text_encoders\.)?clip_g)"),
    "text_encoder": re.compile(
        r"^(base_model\.model\.|lycoris_)?(lora_te\d?_|text_encoder|text_model|encoder\.layers|clip_[lh]|cond_stage_model)"
    ),
    "unet": re.compile(
        r"^(lora_unet_|oft_unet_|unet\.|(model\.)?diffusion_model\.)|(down|up|input|output)_blocks?|mid(dle)?_block"
    ),
}
_CROSS = re.compile(r"attn2[._](processor[._])?to_[kv]$")
_DEEP = re.compile(r"transformer_blocks[._]([2-9]|\d\d)[._]")  # only SDXL has three or more in a row
_SGM = re.compile(r"^lora_unet_(input_blocks|middle_block|output_blocks)_")  # kohya names 1.x and 2.x as diffusers does
# Tensors whose second sides multiplied are a layer's inputs.
_INPUTS = (("down",), ("hada_w1_b",), *((f"lokr_w1{a}", f"lokr_w2{b}") for a in ("", "_b") for b in ("", "_b")))
_SCALARS = {"F16": "<e", "F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}


@dataclass(frozen=True)
class Inspection:
    """What an adapter file holds.

    Attributes:
        file: its name, without folder.
        size: bytes.
        method: "LoRA", "DoRA", "LoHa", "LoKr", "OFT" or another of `trainer.formats.kinds`; several as "LoHa + LoKr",
            "" where it holds none of them.
        format: "kohya", "LyCORIS", "diffusers", "ComfyUI", "PEFT" or "unknown": whose tensor names it has.
        family: the kind of base it fits, "unknown" where nothing tells.
        base: name of the base it was trained on, "" where it does not say.
        title: its own name for itself, "" for none.
        unet_modules, text_encoder_modules, text_encoder_2_modules, other_modules: how many modules it changes; a file
            that does not say which text encoder it means counts as the first.
        ranks, alphas: the different values, ascending. An OFT's rank is the size of a block, and it has no alpha: what
            its files call so bounds its angles. A LoKr without a rank holds both factors whole.
        factors: sides of a LoKr's small matrices, ascending.
        dtypes: the different number types, such as "F16".
        triggers: words that call it.
        fits: the base that takes most of its modules, as it was published; the embedded one where the file says so.
        modules, matched: how many modules it has, and how many of them that base takes, by name and shapes.
        unmatched: each module or tensor that it does not take -> why.
        fit: the same as sentences, with names that differ in numbers only folded.
        hash: AutoV3, 64 hex digits.
        hash_is_true: whether the hash stored in it is that one; None where none is stored.
        notes: what a person should know, as sentences.
    """

    file: str
    size: int
    method: str
    format: str
    family: str
    base: str
    title: str
    unet_modules: int
    text_encoder_modules: int
    text_encoder_2_modules: int
    other_modules: int
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    factors: tuple[int, ...]
    dtypes: tuple[str, ...]
    triggers: tuple[str, ...]
    fits: str
    modules: int
    matched: int
    unmatched: Mapping[str, str]
    fit: tuple[str, ...]
    hash: str
    hash_is_true: bool | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, ready for JSON."""
        return asdict(self) | {"unmatched": dict(self.unmatched)}


_Kind = TypeVar("_Kind", list[Any], dict[str, Any])
_Modules = Mapping[str, Mapping[Role, TensorInfo]]


def inspect(path: Path, given: Given | None = None, header: Header | None = None) -> Inspection:
    """Read an adapter file's header and say what it is.

    Args:
        path: of the file.
        given: the base that it is held against; None for the one that takes most of it.
        header: the file's, where it has just been read.

    Raises:
        UserError: the file is missing, is a pickle, or is not sound safetensors.
    """
    header = header or read_header(path)
    modules = grouped(header.tensors)
    with path.open("rb") as file:
        values = _values(file, header, modules)
    alphas = _alphas(modules, values, peft_config(path, header.metadata))
    parts = [_part(name) for name in modules]
    found, said, shaped = _fit(header, given), said_family(header.metadata), shape_family(modules)
    family = said if said != UNKNOWN else shaped  # by the rules of Invoke
    digest = body_sha256(path)
    stored = header.metadata.get("sshs_model_hash")
    hash_is_true = None if stored is None else stored == digest
    bare = sum(value is None for value in alphas.values())
    return Inspection(
        file=path.name,
        size=path.stat().st_size,
        method=" + ".join(sorted({_method(roles) for roles in modules.values()})),
        format=(form := _format(modules)),
        family=family,
        base=header.metadata.get("ss_sd_model_name") or header.metadata.get("ss_base_model_version", ""),
        title=header.metadata.get("modelspec.title") or header.metadata.get("ss_output_name", ""),
        unet_modules=parts.count("unet"),
        text_encoder_modules=parts.count("text_encoder"),
        text_encoder_2_modules=parts.count("text_encoder_2"),
        other_modules=parts.count("other"),
        ranks=tuple(sorted({rank for roles in modules.values() if (rank := _rank(roles))})),
        alphas=tuple(sorted({value for value in alphas.values() if value is not None})),
        factors=_factors(modules),
        dtypes=tuple(sorted({info.dtype for info in header.tensors.values()})),
        triggers=triggers(header.metadata),
        fits=found.base,
        modules=found.modules,
        matched=len(found.matched),
        unmatched=found.unmatched,
        fit=(found.summary(), *found.lines()),
        hash=digest,
        hash_is_true=hash_is_true,
        notes=(*_mismatch(family, given), *_notes(form, (said, shaped), parts, bare, hash_is_true)),
    )


def _fit(header: Header, given: Given | None) -> Fit:
    if given is not None:
        return fit(header.tensors, given.layers, given.name)
    said = said_family(header.metadata)
    return closest_fit(header.tensors, said == PRACTICE, _FAMILIES.get(said, ""))


def grouped(tensors: Mapping[str, TensorInfo]) -> _Modules:
    """The tensors by module; those that are no part of an adapter are left to the fit, which names them."""
    modules: defaultdict[str, dict[Role, TensorInfo]] = defaultdict(dict)
    for name, found in split_names(tensors).items():
        if found is not None:
            modules[found[0]][found[1]] = tensors[name]
    return modules


def _method(roles: Mapping[Role, TensorInfo]) -> str:
    return title_of(roles) or ADAPTERS[method_of(roles)].title


def part_of(module: str) -> str:
    """Which part of a model a module of a file is of: a part's name, or "other"."""
    return _part(module)


def place_of(module: str) -> tuple[str, str]:
    """The part of a module of a file that has dotted names, and its path in it."""
    part = _part(module)
    return part, module.replace("base_model.model.", "").removeprefix(f"{part}.")


def _part(module: str) -> str:
    return next((part for part, pattern in _PARTS.items() if pattern.search(module)), "other")


def _shape(roles: Mapping[Role, TensorInfo], role: Role) -> tuple[int, ...]:
    return roles[role].shape if role in roles else ()


def _rank(roles: Mapping[Role, TensorInfo]) -> int:
    """0 where a module has none."""
    kind = kind_of(roles)
    shape = _shape(roles, kind.rank[0]) if kind else ()
    return shape[kind.rank[1]] if kind and len(shape) > 1 else 0


def _factors(modules: _Modules) -> tuple[int, ...]:
    """Sides of the small matrices of LoKr."""
    small = (_shape(roles, name)[:2] for roles in modules.values() for name in ("lokr_w1", "lokr_w1_a"))
    return tuple(sorted({side for sides in small for side in sides}))


def _inputs(roles: Mapping[Role, TensorInfo]) -> int:
    """Inputs of the layer that a module changes; 0 where its tensors do not tell, as those of an OFT."""
    for found in ([_shape(roles, role) for role in together] for together in _INPUTS):
        if all(len(shape) > 1 for shape in found):
            return math.prod(shape[1] for shape in found)
    return 0


def _scaled(roles: Mapping[Role, TensorInfo]) -> bool:
    """Whether an alpha scales a module."""
    kind = kind_of(roles)
    return "alpha" in (kind.used if kind else roles) and (kind is None or kind.name != "oft")


def _alphas(modules: _Modules, values: Mapping[str, float | None], config: PeftConfig) -> dict[str, float | None]:
    """The alpha of every module that has a scale: its own, or the one that a config tells; None for neither."""
    found: dict[str, float | None] = {}
    for name, roles in modules.items():
        if _scaled(roles):
            found[name] = values[name] if name in values else config.alpha(*place_of(name), _rank(roles))
    return found


def _format(modules: _Modules) -> str:
    rules = (
        ("kohya", ("lora_", "oft_unet_")),
        ("LyCORIS", "lycoris_"),
        ("diffusers", ("unet.", "text_encoder.", "text_encoder_2.")),
        ("ComfyUI", ("diffusion_model.", "text_encoders.", "clip_l.", "clip_g.")),
        ("PEFT", ("base_model.model.",)),
    )
    for name, prefixes in rules:
        if any(module.startswith(prefixes) for module in modules):
            return name
    return "PEFT" if any(_part(module) != "other" for module in modules) else UNKNOWN


def said_family(metadata: Mapping[str, str]) -> str:
    """The kind of base that a file says it is for; "unknown" where it says none."""
    for key, table in (("ss_base_model_version", _VERSIONS), ("modelspec.architecture", _ARCHITECTURES)):
        for beginning, family in table.items():
            if metadata.get(key, "").lower().startswith(beginning):
                return family
    return SD2 if metadata.get("ss_v2") == "True" else UNKNOWN


def shape_family(modules: _Modules) -> str:
    """The kind of base that the modules' shapes are of; "unknown" where they do not tell."""
    parts = {module: _part(module) for module in modules}
    if "text_encoder_2" in parts.values():
        return SDXL
    widths = {module: width for module, roles in modules.items() if (width := _inputs(roles))}
    for module, width in widths.items():
        if parts[module] == "unet" and _CROSS.search(module):
            return _CROSS_WIDTHS.get(width, UNKNOWN)
    if any(part == "unet" and (_DEEP.search(module) or _SGM.search(module)) for module, part in parts.items()):
        return SDXL
    for module, width in widths.items():
        if parts[module] == "text_encoder" and "self_attn" in module:
            return _TEXT_WIDTHS.get(width, UNKNOWN)
    return UNKNOWN


def _values(file: BinaryIO, header: Header, modules: _Modules) -> dict[str, float | None]:
    """Module -> the number that its alpha is; None where that is not one number."""
    infos = {name: roles["alpha"] for name, roles in modules.items() if "alpha" in roles}
    return {name: _scalar(file, header, info) for name, info in infos.items()}


def _scalar(file: BinaryIO, header: Header, info: TensorInfo) -> float | None:
    begin, end = info.offsets
    if end - begin > 8:
        return None
    file.seek(header.body_start + begin)
    data = file.read(end - begin)
    if info.dtype == "BF16" and len(data) == 2:  # the upper half of a float32
        data, layout = b"\0\0" + data, "<f"
    else:
        layout = _SCALARS.get(info.dtype, "")
    if not layout or struct.calcsize(layout) != len(data):
        return None
    return float(struct.unpack(layout, data)[0])


def triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Take the trigger phrase, else the class words, else the picture folders' names, as other programs do."""
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return (phrase,)
    words: list[object] = []
    for dataset in _parsed(metadata, "ss_datasets", []):
        subsets = dataset.get("subsets") if isinstance(dataset, dict) else None
        for subset in subsets if isinstance(subsets, list) else ():
            words.append(subset.get("class_tokens") if isinstance(subset, dict) else None)
    if not words:
        words = [name.partition("_")[2] for name in _parsed(metadata, "ss_tag_frequency", {})]
    return tuple(dict.fromkeys(word for word in words if isinstance(word, str) and word))


def _parsed(metadata: Mapping[str, str], key: str, empty: _Kind) -> _Kind:
    try:
        value = json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError):
        value = None  # a foreign file's own mistake; the rest of it is still worth reading
    return value if isinstance(value, type(empty)) else empty


def _mismatch(family: str, given: Given | None) -> list[str]:
    """A sentence about a file that is for another base than the one that is given."""
    if given is None or family == UNKNOWN:
        return []
    same = given.practice if family == PRACTICE else _FAMILIES.get(family) == given.family and not given.practice
    wanted = PRACTICE if given.practice else FAMILIES[given.family].title
    return [] if same else [f"It was made for {family}, and the base given is {_a(wanted)}: they do not go together."]


def _a(title: str) -> str:
    return f"{'the' if title == PRACTICE else 'a'} {title}"


def _notes(form: str, families: tuple[str, str], parts: list[str], bare: int, hash_is_true: bool | None) -> list[str]:
    """Sentences about a file: its format, the family that it says and that its shapes are of, a part a module, ..."""
    notes, (said, shaped) = [], families
    if said == PRACTICE:
        notes.append("Trained on the practice base: works only here.")
    elif UNKNOWN not in (said, shaped) and said != shaped:
        notes.append(f"It says it is for {said}, but its shapes are those of {shaped}.")
    if not parts:
        notes.append(
            f"There is no LoRA in this file, nor any of its kin ({', '.join(_KIN)}): it may be a whole checkpoint, "
            "or an adapter of another kind."
        )
    elif form not in ("kohya", "LyCORIS"):
        notes.append("A1111 ignores these tensor names without a word; export it with kohya names.")
    if bare:
        notes.append(f"{bare} modules store no alpha; programs then take alpha = rank, which may not be as trained.")
    if any(part.startswith("text_encoder") for part in parts):
        notes.append("Part of it is in the text encoder, which SD.Next leaves out unless its setting is changed.")
    if hash_is_true is False:
        notes.append(
            "The hash stored in it is wrong, so pictures made with it cannot be traced to it; export it again."
        )
    return notes
