"""SwarmUI: ComfyUI behind a page that sorts files into classes of models."""

import re

from trainer.formats.clients import comfy
from trainer.formats.clients.models import SD1, SD2, SDXL, TITLES, Model
from trainer.formats.clients.said import parsed
from trainer.formats.clients.sheet import Sheet
from trainer.formats.clients.verdict import Rules, Shown, Tally

SOURCE = (
    "mcmonkeyprojects/SwarmUI 062407c, src/Text2Image/T2IModelClassSorter.cs and T2IModelHandler.cs; layers as in "
    "ComfyUI, its backend"
)
_CLASSES = {  # of adapters, by id
    "stable-diffusion-v1/lora": SD1,
    "stable-diffusion-v2-768-v/lora": SD2,
    "stable-diffusion-xl-v1-base/lora": SDXL,
}
_SD1_KEY = "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2.lora_up.weight"
_SDXL_KEYS = (
    "lora_unet_output_blocks_5_1_transformer_blocks_1_ff_net_2.lora_up.weight",
    "lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v.lora_up.weight",
    "lora_te1_text_model_encoder_layers_0_self_attn_v_proj.lora_up.weight",
)
_SIZE = re.compile(r"\s*[+-]?\d+\s*(x\s*[+-]?\d+\s*)?")
_ARCHITECTURE = ("modelspec.architecture", "architecture", "general.architecture", "model_type", "ss_network_module")
_MOST_COVER = 8 * 1024 * 1024


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    return comfy.take(sheet, model)


def class_of(sheet: Sheet) -> str | None:
    """The family that the file is sorted under; None for no class."""
    said = next((sheet.metadata[key] for key in _ARCHITECTURE if sheet.metadata.get(key, "").strip()), "")
    if said.lower() in _CLASSES:
        return _CLASSES[said.lower()]
    if any(key in sheet.tensors for key in _SDXL_KEYS):
        return SDXL
    return SD1 if _SD1_KEY in sheet.tensors else None


def show(sheet: Sheet, model: Model) -> Shown:
    """How the card looks."""
    family = class_of(sheet)
    hidden = ""
    if family not in (None, model.family):
        hidden = f"It is sorted under {TITLES[str(family)]} and marked as incompatible with {TITLES[model.family]}."
    size = sheet.metadata.get("modelspec.resolution", "")
    if size and not _SIZE.fullmatch(size):
        hidden = f"modelspec.resolution is '{size}' and not WxH, so its metadata cannot be read."
    cover = sheet.metadata.get("modelspec.thumbnail", "")
    cover = "modelspec.thumbnail" if cover.startswith("data:image/") and len(cover) <= _MOST_COVER else ""
    remarks = () if family else ("It finds no class for the file and lists it without one.",)
    return Shown(TITLES[family] if family else "no class", hidden, triggers(sheet), cover, remarks)


def triggers(sheet: Sheet) -> tuple[str, ...]:
    """The trigger phrase, else all tags of all folders."""
    phrase = sheet.metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return (phrase,)
    folders = parsed(sheet.metadata, "ss_tag_frequency")
    sets = folders.values() if isinstance(folders, dict) else ()
    found = [tag for tags in sets if isinstance(tags, dict) for tag in tags]
    return tuple(dict.fromkeys(found))


SWARMUI = Rules("SwarmUI", SOURCE, take, show)
