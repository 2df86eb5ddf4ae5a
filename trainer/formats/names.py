"""A tensor's name in an adapter file, in every form that trainers have written, taken apart: module and role."""

import re
from collections.abc import Iterable, Mapping

from trainer.formats.kinds import Role

Split = Mapping[str, tuple[str, Role] | None]  # name of a tensor -> (what stands before the suffix, role)

_SUFFIXES: Mapping[str, Role] = {  # behind the module's name and a dot
    "alpha": "alpha",
    "lora_down.weight": "down",  # kohya, LyCORIS
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora_A.weight": "down",  # PEFT, and diffusers since 0.22
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",  # a PEFT state dict with the adapter's name left in
    "lora_B.default.weight": "up",
    "lora_A": "down",
    "lora_B": "up",
    "lora_A.alpha": "alpha",
    "lora_B.bias": "up_bias",
    "lora_B.default.bias": "up_bias",
    "lora.down.weight": "down",  # diffusers before that
    "lora.up.weight": "up",
    "lora.alpha": "alpha",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_linear_layer.alpha": "alpha",
    "lora_magnitude_vector": "magnitude",  # PEFT's DoRA
    "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector.default": "magnitude",
    "lora_magnitude_vector.default.weight": "magnitude",
    "dora_scale": "dora_scale",  # LyCORIS, ComfyUI
    "oft_R": "oft_R",  # PEFT's OFT
    "oft_R.weight": "oft_R",
    "oft_R.default.weight": "oft_R",
    **{f"{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
    **{
        name: name
        for name in (
            "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a",
            "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "oft_blocks", "oft_diag", "rescale", "diff",
            "diff_b", "w_norm", "b_norm", "on_input",
        )
    },
    **{f"{name}.default": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{
        f"{name}.default": name
        for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    },
}  # fmt: skip
_LONGEST = max(suffix.count(".") for suffix in _SUFFIXES) + 1
# The oldest forms of diffusers: `attn1.processor.to_q_lora.down.weight`, `to_q_lora.down.weight`, `.alpha` of either.
_PROCESSOR = re.compile(r"(?:\.processor)?\.to_(q|k|v|out)_lora\.(?:(down|up)\.weight|(alpha))$")
_PROCESSOR_SIGNS = len(".processor.to_out_lora.down.weight")  # of the longest; a name may have any number of others
_INPUT, _WEIGHT = ".on_input", ".weight"  # LyCORIS' IA3 calls what it learns as a layer calls its weight


def split_name(name: str) -> tuple[str, Role] | None:
    """Return (what stands before the suffix, role) of an adapter tensor's name, or None for any other name."""
    old = _PROCESSOR.search(name, len(name) - _PROCESSOR_SIGNS)
    if old:
        layer = "to_out.0" if old[1] == "out" else f"to_{old[1]}"
        return f"{name[: old.start()]}.{layer}", old[2] or old[3]
    pieces = name.rsplit(".", _LONGEST)
    for first in range(1, len(pieces)):
        role = _SUFFIXES.get(".".join(pieces[first:]))
        if role:
            return ".".join(pieces[:first]), role
    return None


def split_names(names: Iterable[str]) -> dict[str, tuple[str, Role] | None]:
    """Every name of a file -> see `split_name`; an IA3's too, which only those beside it tell."""
    found = {name: split_name(name) for name in names}
    for name in [name for name in found if name.endswith(_INPUT)]:
        stem = name.removesuffix(_INPUT)
        if stem + _WEIGHT in found:
            found[stem + _WEIGHT] = stem, "weight"
    return found
