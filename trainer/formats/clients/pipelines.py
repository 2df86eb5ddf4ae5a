"""diffusers: `load_lora_weights` of StableDiffusionPipeline and StableDiffusionXLPipeline.

A file is rewritten from kohya's form if every name has one of its four prefixes, and then nothing may be left over;
otherwise every name must contain "lora", and names are taken as they are.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from trainer.formats.clients.models import SDXL, TEXT, TEXT_2, UNET, Layer, Model
from trainer.formats.clients.sheet import (
    DORA,
    KOHYA,
    OLD,
    PEFT,
    Endings,
    Group,
    Names,
    Sheet,
    gather,
    odd_alphas,
    split,
)
from trainer.formats.clients.verdict import Rules, Shown, Tally, first_named

SOURCE = (
    "huggingface/diffusers 0.42.1, loaders/lora_pipeline.py, lora_conversion_utils.py and peft.py, with peft 0.21.2; "
    "checked by loading files"
)
PREFIXES = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_")
STABILITY, DIFFUSERS = ("input_blocks", "middle_block", "output_blocks"), ("down_blocks", "mid_block", "up_blocks")
NATIVE: Endings = {**PEFT, **OLD, ".lora_magnitude_vector": "dora_scale"}
_ATTENTION = re.compile(r"^lora_unet_.*_attn[12]_to_(q|k|v|out_0)$")
_NO_LENGTHS = "DoRA's lengths are dropped with a warning, and a plain LoRA is left."


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    names = [name for name in sheet.tensors if "dora_scale" not in name]
    lengths = [name for name in sheet.tensors if "dora_scale" in name]
    tally.change(_NO_LENGTHS, lengths)
    if names and all(name.startswith(PREFIXES) for name in names):
        return _from_kohya(tally, sheet, names, model)
    plain = [name for name in names if "lora" not in name]
    if plain:
        return tally.refuse(f"Invalid LoRA checkpoint: a name without 'lora' in it ({first_named(plain, 1)}).")
    return _as_it_is(tally, sheet, names, model)


def _from_kohya(tally: Tally, sheet: Sheet, names: list[str], model: Model) -> Tally:
    if odd := next(odd_alphas(sheet), None):
        return tally.refuse(f"{odd} is not one number, which stops the file.")
    if model.family == SDXL:
        sgm = [name for name in names if any(block in name for block in STABILITY)]
        if sgm and any(block in name for name in names for block in DIFFUSERS):
            tally.lose("of Stability's block names, dropped in silence because others have diffusers'.", sgm)
            names = [name for name in names if name not in set(sgm)]
    halves, left = _left_over(names)
    if halves:
        return tally.refuse(f"{halves[0]} has no lora_up, which stops the file.")
    if left:
        return tally.refuse(f"ValueError: names that it cannot rewrite ({first_named(left, 2)}).")
    return _sort(tally, sheet, {**KOHYA, **DORA}, _kohya_names(model), _readable(tally, names, model))


def _readable(tally: Tally, names: Sequence[str], model: Model) -> list[str]:
    """The names without those of text encoders whose form cannot be told: it is told by out_proj, else by the MLP."""
    kept = list(names)
    for part in dict.fromkeys(layer.part for layer in model.layers if layer.part != UNET):
        held = [name for name in names if _part(name) == part]
        if not held or any("_out_proj." in name for name in held):
            continue
        attention = [name for name in held if "_self_attn_" in name]
        if len(attention) == len(held):
            tally.refuse("ValueError: it cannot tell the form of a text encoder without out_proj and without an MLP.")
        tally.lose("of a text encoder's attention, not understood where out_proj is missing.", attention)
        kept = [name for name in kept if name not in set(attention)]
    return kept


def _left_over(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Modules without their second half, and names that belong to no module with a lora_down."""
    downs = {name.split(".")[0] for name in names if name.endswith("lora_down.weight")}
    ups = {name.split(".")[0] for name in names if name.endswith(".lora_up.weight")}
    taken = {f"{stem}{end}" for stem in downs for end in (".lora_down.weight", ".lora_up.weight", ".alpha")}
    return sorted(downs - ups), [name for name in names if name not in taken]


def _as_it_is(tally: Tally, sheet: Sheet, names: list[str], model: Model) -> Tally:
    known = {
        f"{layer.part}.{name}": layer
        for layer in model.layers
        for name in dict.fromkeys((layer.path, layer.path.replace(".to_", ".processor.to_"), _old_output(layer.path)))
    }
    return _sort(tally, sheet, NATIVE, known, names)


def _old_output(path: str) -> str:
    return path.replace(".to_", ".processor.to_").removesuffix(".0") if path.endswith("to_out.0") else path


def _kohya_names(model: Model) -> Names:
    return {name: layer for layer in model.layers for name in _layer_names(layer, model.family)}


def _layer_names(layer: Layer, family: str) -> Iterator[str]:
    if layer.norm:
        return
    if layer.part == UNET:
        yield f"lora_unet_{layer.flat}"
        if family == SDXL:
            yield f"lora_unet_{layer.flat_sgm}"
    elif layer.part == TEXT:
        yield f"lora_te_{layer.flat}"
        yield f"lora_te1_{layer.flat}"
    else:
        yield f"lora_te2_{layer.flat}"


def _sort(tally: Tally, sheet: Sheet, endings: Endings, known: Names, names: Sequence[str]) -> Tally:
    kept = Sheet(sheet.stem, sheet.metadata, {name: sheet.tensors[name] for name in names})
    groups, unknown = gather(kept, endings, known)
    sized = [group for group in groups if group.kind]
    misfits = [group.stem for group in sized if not group.fits]
    if misfits:
        return tally.refuse(f"size mismatch for {first_named(misfits, 1)}: PEFT stops at a matrix of another size.")
    for part, reason in _unmatched(unknown, sized).items():
        if reason.startswith("!"):
            return tally.refuse(reason[1:])
        tally.lose(reason, [name for name in unknown if _part(name) == part])
    tally.lose("its tensors make no update.", [group.stem for group in groups if not group.kind])
    tally.applied += [group.stem for group in sized]
    return tally


def _unmatched(unknown: Sequence[str], groups: Sequence[Group]) -> dict[str, str]:
    """Part of the names that match no layer -> what becomes of them; a leading ! where it stops the file."""
    taken = {group.layer.part for group in groups}
    found = {}
    for part in dict.fromkeys(map(_part, unknown)):
        name = next(name for name in unknown if _part(name) == part)
        if part == "":
            found[part] = "without a prefix unet. or text_encoder.; passed over with a warning that no keys were found."
        elif part in (UNET, TEXT) and part not in taken:
            found[part] = f"!None of the target modules is in the {part} ({split(name, NATIVE)[0]})."
        else:
            found[part] = "no layer of that name is there; named in a warning."
    return found


def _part(name: str) -> str:
    rows = (("lora_unet_", UNET), ("lora_te2_", TEXT_2), ("lora_te", TEXT))
    found = next((part for start, part in rows if name.startswith(start)), "")
    return found or next((part for part in (UNET, TEXT_2, TEXT) if name.startswith(f"{part}.")), "")


def rescaled(alphas: Mapping[str, float]) -> list[str]:
    """Attention layers of a UNet, in kohya's form, that get another alpha than theirs: the one that most layers have.

    Their alphas are stored under names that nothing looks up (`_get_alpha_name`); seen in loaded files.
    """
    counted = Counter(alpha for stem, alpha in alphas.items() if stem.startswith("lora_unet_"))
    if len(counted) < 2:
        return []
    usual = counted.most_common(1)[0][0]
    return [stem for stem, alpha in alphas.items() if alpha != usual and _ATTENTION.search(stem)]


def rescaled_once(ranks: Mapping[str, int], alphas: Mapping[str, float]) -> list[str]:
    """Layers of a UNet, in kohya's form, that diffusers 0.32 scales by 1 and not by alpha / rank.

    It alone does so, where two layers or more have another rank than most (`_maybe_adjust_config`).
    """
    own = {stem: rank for stem, rank in ranks.items() if stem.startswith("lora_unet_")}
    most = Counter(own.values()).most_common(1)[0][1] if own else 0
    if len(own) - most < 2:
        return []
    return [stem for stem, rank in own.items() if alphas.get(stem, rank) != rank]


def even_ranks(ranks: Mapping[str, int]) -> dict[str, int]:
    """Ranks that the layers of a UNet get, so that every release of diffusers scales them alike with alpha = rank.

    Where ranks differ, 0.32 takes alpha = rank for all layers, whatever the file says. Others go by the file, but for
    attention (see `rescaled`): that gets one rank, which most layers then have.

    Args:
        ranks: name of a module, in kohya's form -> its rank.

    Returns:
        Module of the UNet -> a rank that is as large or larger; {} where they do not differ.
    """
    own = {stem: rank for stem, rank in ranks.items() if stem.startswith("lora_unet_")}
    if len(set(own.values())) < 2:
        return {}
    attention = [stem for stem in own if _ATTENTION.search(stem)]
    if not attention:
        return own
    filled = own | dict.fromkeys(attention, max(own[stem] for stem in attention))
    common, *others = Counter(filled.values()).most_common(2)
    if common[0] == filled[attention[0]] and all(count < common[1] for _, count in others):
        return filled
    return dict.fromkeys(own, max(own.values()))


def show(sheet: Sheet, model: Model) -> Shown:
    """A library lists nothing."""
    return Shown("not listed", remarks=("A library: trigger words and pictures are up to the program around it.",))


DIFFUSERS_CLIENT = Rules("diffusers", SOURCE, take, show)
