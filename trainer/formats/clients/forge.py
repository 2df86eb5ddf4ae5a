"""Forge: A1111's page over ComfyUI's names, without OFT, and with a limit on tensors that match nothing."""

from trainer.formats.clients import said
from trainer.formats.clients.comfy import FORGE_ENDINGS, apply, names
from trainer.formats.clients.models import Model
from trainer.formats.clients.sheet import Sheet, gather, odd_alphas
from trainer.formats.clients.verdict import Rules, Shown, Tally, first_named

SOURCE = (
    "lllyasviel/stable-diffusion-webui-forge dfdcbab, extensions-builtin/sd_forge_lora/networks.py and network.py, "
    "packages_3rdparty/comfyui_lora_collection/lora.py, backend/patcher/lora.py"
)
MOST_UNMATCHED = 12


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    if odd := next(odd_alphas(sheet), None):
        return tally.refuse(f"{odd} is not one number, which stops the file.")
    groups, unknown = gather(sheet, FORGE_ENDINGS, names(model, generic_text=False))
    if len(unknown) > MOST_UNMATCHED:
        return tally.refuse(
            f"{len(unknown)} tensors match no layer, and more than {MOST_UNMATCHED} mean 'LoRA version mismatch': "
            f"nothing is loaded ({first_named(unknown, 2)})."
        )
    tally.lose("no layer of that name is known; named in the log.", unknown)
    return apply(tally, groups)


def version(sheet: Sheet) -> str:
    """Which base Forge takes the file to be for."""
    architecture = sheet.metadata.get("modelspec.architecture", "")
    if architecture == "stable-diffusion-xl-v1-base/lora":
        return "SDXL"
    if sheet.metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    if sheet.metadata.get("ss_v2") == "True":
        return "SD2"
    return "SD1" if architecture == "stable-diffusion-v1/lora" else "unknown"


def show(sheet: Sheet, model: Model) -> Shown:
    """How the card looks; Forge shows the version and hides nothing by it as installed."""
    remarks = (*said.alias_remarks(sheet), *said.hash_remarks(sheet))
    return Shown(version(sheet), "", said.tags(sheet), said.embedded_cover(sheet), remarks)


FORGE = Rules("Forge", SOURCE, take, show)
