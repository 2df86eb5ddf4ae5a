"""SD.Next with its own loader, which is the one it uses for Stable Diffusion as installed.

Names are those of kohya over diffusers' modules; Stability's block names are rewritten. Endings are lora_up and
lora_down only. A module of unknown tensors is counted and left out, the rest is applied.
"""

from collections.abc import Iterator

from trainer.formats.clients.models import SD1, SD2, SDXL, UNET, Layer, Model
from trainer.formats.clients.said import parsed
from trainer.formats.clients.sheet import (
    DORA,
    IA3,
    KOHYA,
    LYCORIS,
    OFT,
    Endings,
    Names,
    Sheet,
    gather,
    odd_alphas,
)
from trainer.formats.clients.verdict import Rules, Shown, Tally

SOURCE = (
    "vladmandic/sdnext 058a7f0, modules/lora/lora_load.py, lora_convert.py, network*.py, lora_overrides.py and "
    "modules/ui_definitions.py (lora_apply_te)"
)
ENDINGS: Endings = {**KOHYA, **DORA, **LYCORIS, **OFT, **IA3}
TE_OFF = "in the text encoder, which it leaves out unless 'LoRA native apply to text encoder' is switched on."
_VERSIONS = {SD1: "sd1", SD2: "sd2", SDXL: "xl"}


def names(model: Model) -> Names:
    """Return each name of a module that is found in the model."""
    found: dict[str, Layer] = {}
    for layer in model.layers:
        known = _unet_names(layer, model.family) if layer.part == UNET else _text_names(layer, model.family)
        found |= dict.fromkeys(known, layer)
    return found


def _unet_names(layer: Layer, family: str) -> Iterator[str]:
    yield f"lora_unet_{layer.flat}"
    yield f"unet.{layer.path}"
    # The table of names is SDXL's: the first upsampler of the others stands one place lower in Stability's code.
    if family == SDXL or layer.path != "up_blocks.0.upsamplers.0.conv":
        yield f"lora_unet_{layer.flat_sgm}"
        yield f"oft_unet_{layer.flat_sgm}"


def _text_names(layer: Layer, family: str) -> Iterator[str]:
    prefix = "lora_te_" if family != SDXL else "lora_te1_" if layer.part == "text_encoder" else "lora_te2_"
    yield prefix + layer.flat


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    if odd := next(odd_alphas(sheet), None):
        return tally.refuse(f"{odd} is not one number, which stops the file.")
    groups, unknown = gather(sheet, ENDINGS, names(model))
    tally.lose(
        "no layer of that name is known; counted in the log.",
        [name for name in unknown if not name.startswith("bundle_emb.")],
    )
    tally.lose("its tensors are of no method it knows; counted in the log.", [g.stem for g in groups if not g.kind])
    whole = [group for group in groups if group.kind]
    tally.lose("another size than the layer's; an error in the log each.", [g.stem for g in whole if not g.fits])
    whole = [group for group in whole if group.fits]
    tally.lose(TE_OFF, [group.stem for group in whole if group.layer.part != UNET])
    tally.applied += [group.stem for group in whole if group.layer.part == UNET]
    return tally


def version(sheet: Sheet) -> str:
    """Which base SD.Next takes the file to be for; "" where nothing tells."""
    base = sheet.metadata.get("ss_base_model_version", "").lower()
    architecture = sheet.metadata.get("modelspec.architecture", "").lower()
    if base.startswith("sd_v1"):
        return "sd1"
    if base.startswith("sdxl"):
        return "xl"
    for beginning, found in (("stable-diffusion-v1", "sd1"), ("stable-diffusion-xl", "xl")):
        if architecture.startswith(beginning):
            return found
    if "v1-5" in sheet.metadata.get("ss_sd_model_name", ""):
        return "sd1"
    if sheet.metadata.get("ss_v2") == "True":
        return "sd2"
    return "xl" if "xl" in sheet.stem.lower() else ""


def show(sheet: Sheet, model: Model) -> Shown:
    """How the card looks: the version is shown and hides nothing."""
    found, remarks = version(sheet), []
    if found not in ("", _VERSIONS[model.family]):
        remarks.append(f"Its card says it is for {found}.")
    if "." in sheet.stem:
        remarks.append(f"Dots in a name become underscores: <lora:{sheet.stem.replace('.', '_')}:1>.")
    return Shown(found or "unknown", "", triggers(sheet), "", tuple(remarks))


def triggers(sheet: Sheet) -> tuple[str, ...]:
    """Names of the folders without their repeats: `10_ohwx man` gives `ohwx man`."""
    folders = parsed(sheet.metadata, "ss_tag_frequency")
    found = [name.split("_", 1)[-1].lower() for name in folders] if isinstance(folders, dict) else []
    return tuple(dict.fromkeys(word for word in found if word not in ("", "img", "dataset")))


SDNEXT = Rules("SD.Next", SOURCE, take, show)
