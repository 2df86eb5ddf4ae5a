"""InvokeAI: the base is read from the tensors' shapes, and a file that does not keep to one form is refused."""

import re
from collections.abc import Iterator, Mapping

from trainer.formats.clients.models import SD1, SD2, SDXL, TITLES, UNET, Layer, Model
from trainer.formats.clients.sheet import Group, Names, Sheet, odd_alphas
from trainer.formats.clients.verdict import SCRAMBLED, Rules, Shown, Tally
from trainer.formats.header import TensorInfo

SOURCE = (
    "invoke-ai/InvokeAI 8e71a8a, invokeai/backend/model_manager/configs/lora.py, util/model_util.py, "
    "load/model_loaders/lora.py, backend/patches/layers/utils.py, dora_layer.py, layer_patcher.py and "
    "lora_conversions/sdxl_lora_conversion_utils.py"
)
_PREFIXES = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_", "lora_transformer_")
_SUFFIXES = (
    "to_k_lora.up.weight", "to_q_lora.down.weight", "lora_A.weight", "lora_B.weight", "lokr_w1", "lokr_w2",
    "hada_w1_a", "hada_w2_a",
)  # fmt: skip
_SDXL_PREFIXES = ("lora_unet_", "lora_te1_", "lora_te2_")
_WIDTHS = {768: SD1, 1024: SD2, 1280: SDXL, 2048: SDXL}
_DEEP = re.compile(
    r"lora_unet_(?:(?:down|up)_blocks_\d+_attentions_\d+|mid_block_attentions_\d+|(?:in|out)put_blocks_\d+_\d+"
    r"|middle_block_\d+)_transformer_blocks_([2-9]|\d\d+)_"
)
_STABILITY = re.compile(
    r"lora_unet_(input_blocks|middle_block|output_blocks|out_[02]|time_embed_[02]|label_emb_0_[02])"
)
_ROLES = {"lora_up.weight": "up", "lora_down.weight": "down", "lora_mid.weight": "mid"}


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    base = base_of(sheet)
    if base is None:
        return tally.refuse(
            "The base cannot be told from the shapes (it looks at attn2's to_k and to_v, time_emb_proj and the text "
            "encoder under kohya's names), so it is not installed."
        )
    if base != model.family:
        return tally.refuse(f"By its shapes it is installed for {TITLES[base]}, and offered there only.")
    modules = _modules(sheet)
    if problem := _problem(sheet, modules, base):
        return tally.refuse(problem)
    known = names(model)
    strange = [stem for stem in modules if stem not in known]
    tally.lose("no layer of that name is found; a warning in the log each.", strange)
    groups = [Group(stem, known[stem], tensors) for stem, tensors in modules.items() if stem in known]
    tally.take(groups, "a warning in the log each", SCRAMBLED)
    return tally


def _modules(sheet: Sheet) -> dict[str, dict[str, TensorInfo]]:
    """Module's name, all before the first dot -> its tensors by what they are."""
    found: dict[str, dict[str, TensorInfo]] = {}
    for name, info in sheet.tensors.items():
        if not name.startswith("bundle_emb"):
            stem, _, leaf = name.replace(".default.", ".").partition(".")
            found.setdefault(stem, {})[_ROLES.get(leaf, leaf)] = info
    return found


def _problem(sheet: Sheet, modules: Mapping[str, Mapping[str, TensorInfo]], base: str) -> str:
    """Why the whole file fails at its first use; "" where it does not."""
    if odd := next(odd_alphas(sheet), None):
        return f"{odd} is not one number, which stops the file."
    if base == SDXL:
        other = next((stem for stem in modules if not stem.startswith(_SDXL_PREFIXES)), None)
        if other:
            return f"Every name must begin with lora_unet_, lora_te1_ or lora_te2_, and {other} does not."
        blocks = {bool(_STABILITY.match(stem)) for stem in modules if stem.startswith("lora_unet_")}
        if len(blocks) == 2:
            return "Some names can be rewritten from Stability's to diffusers' and some cannot, which stops the file."
    broken = next((stem for stem, held in modules.items() if not _supported(held)), None)
    if broken:
        return f"The tensors of {broken} are of no method it knows, which stops the file."
    return ""


def _supported(held: Mapping[str, TensorInfo]) -> bool:
    if "dora_scale" in held:
        return {"up", "down"} <= held.keys()
    rows = (
        {"up", "down"},
        {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
        {"diff"},
        {"weight", "on_input"},
        {"w_norm"},
    )
    kron = ("lokr_w1" in held or {"lokr_w1_a", "lokr_w1_b"} <= held.keys()) and (
        "lokr_w2" in held or {"lokr_w2_a", "lokr_w2_b"} <= held.keys()
    )
    return kron or any(needed <= held.keys() for needed in rows)


def names(model: Model) -> Names:
    """Return each name of a module that is found in the model."""
    return {name: layer for layer in model.layers for name in _layer_names(layer, model.family)}


def _layer_names(layer: Layer, family: str) -> Iterator[str]:
    if layer.part == UNET:
        yield f"lora_unet_{layer.flat}"
        if family == SDXL:
            yield f"lora_unet_{layer.flat_sgm}"
    elif family == SDXL:
        yield ("lora_te1_" if layer.part == "text_encoder" else "lora_te2_") + layer.flat
    else:
        yield f"lora_te_{layer.flat}"


def base_of(sheet: Sheet) -> str | None:
    """The family by the rules of its model probe; None where it gives up."""
    if not any(name.startswith(_PREFIXES) or name.endswith(_SUFFIXES) for name in sheet.tensors):
        return None
    width = _token_width(sheet.tensors)
    if width in _WIDTHS:
        return _WIDTHS[width]
    return SDXL if any(_DEEP.match(name) for name in sheet.tensors) else None


def _token_width(tensors: Mapping[str, TensorInfo]) -> int | None:
    encoders: dict[str, int] = {}
    for name in sorted(tensors):
        width = _width(name, tensors)
        if width is None:
            continue
        if name.startswith(("lora_te_", "lora_unet_")):
            return width
        encoders[name[:8]] = width
        if len(encoders) == 2:
            return sum(encoders.values())
    return None


def _width(name: str, tensors: Mapping[str, TensorInfo]) -> int | None:
    """Width of a layer's input, of those layers that are looked at."""
    stem, _, leaf = name.partition(".")
    unet = stem.startswith("lora_unet_") and (stem.endswith(("_attn2_to_k", "_attn2_to_v")))
    timed = stem.startswith("lora_unet_") and "time_emb_proj.lora_down" in name
    text = stem.startswith(("lora_te_", "lora_te1_", "lora_te2_")) and "_self_attn_" in name
    if not (unet or timed or text):
        return None
    if leaf in ("lora_down.weight", "hada_w1_b", "hada_w2_b", "diff"):
        shape = tensors[name].shape
        return shape[1] if len(shape) > 1 else None
    if "lokr_" in leaf and {f"{stem}.lokr_w1", f"{stem}.lokr_w2"} <= tensors.keys():
        first, second = tensors[f"{stem}.lokr_w1"].shape, tensors[f"{stem}.lokr_w2"].shape
        return first[1] * second[1] if min(len(first), len(second)) > 1 else None
    return None


def show(sheet: Sheet, model: Model) -> Shown:
    """How the entry looks; everything but the base comes from files beside it."""
    base = base_of(sheet)
    remark = "Trigger words and a picture come only from a .json and a .png of the same name beside the file."
    return Shown(TITLES[base] if base else "not installed", remarks=(remark,))


INVOKEAI = Rules("InvokeAI", SOURCE, take, show)
