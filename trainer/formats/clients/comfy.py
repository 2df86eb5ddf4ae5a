"""ComfyUI, and the names that Forge took over from it.

The loaded model decides which names are known: each weight gives a name of kohya's, of diffusers' and of its own kind,
and each name is tried with every ending. What is left over is logged, and the rest is applied.
"""

from collections.abc import Iterator

from trainer.formats.clients.models import TEXT, UNET, Layer, Model
from trainer.formats.clients.sheet import (
    DEFAULT,
    DORA,
    KOHYA,
    LYCORIS,
    OFT,
    OLD,
    PEFT,
    Endings,
    Group,
    Names,
    Sheet,
    gather,
    odd_alphas,
)
from trainer.formats.clients.verdict import Rules, Shown, Tally, first_named

SOURCE = (
    "Comfy-Org/ComfyUI, comfy/lora.py 17358c8, comfy/weight_adapter/lora.py 6f98b15; comfy/utils.py 00728eb and "
    "comfy/weight_adapter/oft.py 3684cff of comfyanonymous/ComfyUI"
)
FORGE_ENDINGS: Endings = {**KOHYA, **PEFT, **OLD, **DORA, **LYCORIS, ".set_weight": "set_weight"}
ENDINGS: Endings = {
    **FORGE_ENDINGS, **DEFAULT, **OFT, ".lora_B": "up", ".lora_A": "down", ".reshape_weight": "reshape"
}  # fmt: skip
ROWS = "DoRA lengths of rows are compared with the base's instead of the changed weight's (ComfyUI#15458)."
_KNOWN_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "mlp.fc1", "mlp.fc2")
_GENERIC = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
# A tensor that is asked for as soon as the other one is there.
_NEEDS = (
    ("up", {"down"}),
    ("hada_w1_a", {"hada_w1_b", "hada_w2_a", "hada_w2_b"}),
    ("a1.weight", {"a2.weight", "b1.weight", "b2.weight"}),
)


def names(model: Model, generic_text: bool = True) -> Names:
    """Return each name of a module that is known while this model is loaded.

    Args:
        model: the base.
        generic_text: whether the text encoders are also known by their own names (not in Forge).
    """
    found: dict[str, Layer] = {}
    for layer in model.layers:
        known = _unet_names(layer) if layer.part == UNET else _text_names(layer, model.family, generic_text)
        found |= dict.fromkeys(known, layer)
    return found


def _unet_names(layer: Layer) -> Iterator[str]:
    yield f"lora_unet_{layer.flat_sgm}"
    yield f"diffusion_model.{layer.sgm}"
    yield f"lora_unet_{layer.flat}"
    yield f"lycoris_{layer.flat}"
    # Of diffusers only the form before PEFT is known for attention.
    old = layer.path.replace(".to_", ".processor.to_")
    old = old.removesuffix(".0") if old.endswith(".to_out.0") else old
    yield old
    yield f"unet.{old}"


def _text_names(layer: Layer, family: str, generic: bool) -> Iterator[str]:
    if generic:
        encoder = "clip_h" if family == "sd2" else _GENERIC[layer.part]
        yield f"text_encoders.{encoder}.transformer.{layer.path}"
    if layer.path == "text_projection":
        yield "lora_te2_text_projection"
        return
    if not layer.path.endswith(_KNOWN_TEXT):
        return
    yield f"{layer.part}.{layer.path}"
    for prefix in ("lora_te_", "lora_te1_") if layer.part == TEXT else ("lora_te2_",):
        yield prefix + layer.flat


def apply(tally: Tally, groups: list[Group]) -> Tally:
    """Sort the modules that were found into those that are applied and those that are not."""
    halves = [
        group.stem
        for group in groups
        for role, needed in _NEEDS
        if role in group.tensors and not needed <= group.tensors.keys()
    ]
    if halves:
        return tally.refuse(f"{first_named(halves, 1)} lacks a half, which stops the file with an error.")
    tally.lose("its tensors make no update.", [group.stem for group in groups if group.kind is None])
    whole = [group for group in groups if group.kind is not None]
    tally.take(whole, "an error in the log each", ROWS)
    return tally


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    if odd := next(odd_alphas(sheet), None):
        return tally.refuse(f"{odd} is not one number, which stops the file.")
    groups, unknown = gather(sheet, ENDINGS, names(model))
    tally.lose("no layer of that name is known; logged as 'lora key not loaded'.", unknown)
    return apply(tally, groups)


def show(sheet: Sheet, model: Model) -> Shown:
    """ComfyUI lists files by name and reads no metadata."""
    remark = "It lists files by their names and reads neither trigger words nor a picture from the file."
    return Shown("every base", remarks=(remark,))


COMFYUI = Rules("ComfyUI", SOURCE, take, show)
