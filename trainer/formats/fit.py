"""How an adapter file fits a base: which of its modules find a layer, and what becomes of the rest, by name.

The same report wherever a file is read: `atelier inspect`, Library, Preview, and a training that goes on from a file.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from trainer.formats.header import TensorInfo, shown
from trainer.formats.kinds import Shape, misfit
from trainer.formats.kohya import Module, Role, match
from trainer.formats.names import Split, split_names

NO_LAYER, HALF = "no such layer in this base", "parts are missing"
BESIDE, UNKNOWN = "not used beside the module's other tensors", "not of any adapter known here"
NAMED = 3  # folded names that a sentence has
_NUMBER = re.compile(r"\d+")
_OURS = re.compile(r"(down|up|input|output|mid|middle)_blocks?[._]|text_model|(?<!text_)encoder[._]layers[._]\d")

# By what a name has in it, every number as 0. Of methods and files that are not read here, for any layer.
METHODS = (
    ("an embedding bundled with it", r"^bundle_emb\."),
    ("a textual inversion", r"^(emb_params|string_to_param.*|clip_[lgh])$|^<.*>$"),
    ("a file in lora_diffusion's own format", r"^(unet|text_encoder)(:[^:]*)?:\d+:(up|down)"),
    ("PEFT's IA3", r"\.ia\d_l"),
    ("PEFT's BOFT", r"\.boft_[Rs]"),
    ("PEFT's VeRA, VB-LoRA or FourierFT", r"\.(vera_|vblora_|fourierft_)"),
    ("PEFT's AdaLoRA", r"\.(lora_E|ranknum)"),
    ("a LoRA of an embedding", r"\.lora_embedding_[AB]"),
    ("a whole checkpoint", r"\.(weight|bias)$"),
)
# Of other models, where the layer is none of Stable Diffusion's.
MODELS = (
    ("a ControlNet-LLLite", r"^lllite_"),
    ("an IP-Adapter", r"^(ip_adapter|image_proj)\."),
    ("a T5 encoder", r"encoder[._]block[._]\d|^t\dxxl|^text_encoders\.t\d|^lora_te_?t\d"),
    ("an adapter for Flux or Hunyuan", r"(double|single)_blocks|single_transformer_blocks"),
    ("an adapter for Stable Diffusion 3", r"joint_blocks"),
    ("an adapter for Stable Cascade", r"^lora_prior_"),
    ("an adapter for a language model", r"model[._]layers[._]\d+[._](self_attn|mlp)"),
    ("an adapter for another transformer (Wan, Lumina, Qwen...)", r"(^|[._])(transformer_)?(blocks|layers)[._]\d"),
)


@dataclass(frozen=True)
class Fit:
    """A file held against a base.

    Attributes:
        base: name of the base.
        layers: layers of the base that could have been changed.
        modules: modules in the file.
        matched: kohya name -> (part, path), of the modules that are used.
        roles: tensor name -> (kohya name, role), of the tensors that are used.
        unmatched: module or tensor as the file names it -> why it is not used.
    """

    base: str
    layers: int
    modules: int
    matched: Mapping[str, Module]
    roles: Mapping[str, tuple[str, Role]]
    unmatched: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all of the file is used."""
        return not self.unmatched

    def summary(self) -> str:
        """How much fits, as a sentence."""
        return f"{len(self.matched)} of {self.modules} modules fit {self.base}."

    def lines(self) -> list[str]:
        """What does not fit: a sentence for each reason, names folded where they differ in numbers only."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.unmatched.items():
            reasons.setdefault(reason, []).append(name)
        return [f"Not used, {reason}: {len(names)} ({listed(names)})." for reason, names in reasons.items()]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "base": self.base,
            "layers": self.layers,
            "modules": self.modules,
            "matched": len(self.matched),
            "unmatched": [{"name": name, "reason": reason} for name, reason in self.unmatched.items()],
        }


def fit(infos: Mapping[str, TensorInfo], layers: Mapping[Module, Shape], base: str, split: Split | None = None) -> Fit:
    """Hold a file's tensors against the layers of a base, by names and shapes alone.

    Args:
        infos: the file's tensors by name.
        layers: (part, path) -> shape of the weight, of all layers that have one; of a norm one size.
        base: what the base is called.
        split: the names as `split_names` takes them apart, where that is done already.
    """
    split = split_names(infos) if split is None else split
    paths: dict[str, list[str]] = {}
    for part, path in layers:
        paths.setdefault(part, []).append(path)
    matched = match(infos, paths, split)
    held: dict[str, dict[Role, str]] = {}
    for name, (module, role) in matched.roles.items():
        held.setdefault(module, {})[role] = name
    stems = {name: found[0] if found else None for name, found in split.items()}
    unmatched: dict[str, str] = {}
    used: dict[str, tuple[str, Role]] = {}
    for module, names in held.items():
        reason = misfit({role: infos[name] for role, name in names.items()}, layers[matched.modules[module]])
        if reason:
            unmatched[stems[next(iter(names.values()))] or module] = reason
        else:
            used |= {name: (module, role) for role, name in names.items()}
    known = {stems[name] for name in used}
    halves = set(matched.halves)
    for name in matched.unmatched:
        stem = stems[name]
        if stem is None:
            unmatched[name] = other(name)
        elif stem in known:
            unmatched[name] = BESIDE
        else:
            unmatched.setdefault(stem, HALF if name in halves else other(stem, NO_LAYER))
    modules = {stem for stem in stems.values() if stem is not None}
    fitting = {module: matched.modules[module] for module, _ in used.values()}
    return Fit(base, len(layers), len(modules), fitting, used, unmatched)


def other(name: str, otherwise: str = UNKNOWN) -> str:
    """What a name that finds no layer belongs to, as the reason why it is not used."""
    found = _kind_of_name(_NUMBER.sub("0", name))
    return f"it is of {found}" if found else otherwise


@lru_cache(maxsize=4096)  # names come in thousands that differ in numbers only
def _kind_of_name(name: str) -> str | None:
    rows = METHODS if _OURS.search(name) else (*METHODS, *MODELS)
    return next((what for what, pattern in rows if re.search(pattern, name)), None)


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: those that differ in numbers only count as one, and of many kinds the rest is counted."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(_NUMBER.sub("#", name), []).append(name)
    parts = [
        shown(alike[0]) if len(alike) == 1 else f"{len(alike)} like {shown(alike[0])}" for alike in folded.values()
    ]
    more = len(parts) - NAMED
    return ", ".join(parts[:NAMED]) + (f", and of {more} kinds more" if more > 0 else "")
