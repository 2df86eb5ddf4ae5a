"""AUTOMATIC1111's stable-diffusion-webui.

A module's name is what stands before the first dot. Names of diffusers' blocks are rewritten to Stability's by fixed
arithmetic (three layers a block), and looked up among the modules of the loaded model; what is not there is passed over
at debug level. A module whose tensors make no update of a known method stops the whole file.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from trainer.formats.clients import said
from trainer.formats.clients.models import SD1, SD2, SDXL, TEXT, TITLES, UNET, Layer, Model
from trainer.formats.clients.sheet import (
    DORA,
    IA3,
    KOHYA,
    LYCORIS,
    OFT,
    PEFT,
    Group,
    Names,
    Sheet,
    gather,
    module_of,
    odd_alphas,
)
from trainer.formats.clients.verdict import SCRAMBLED, Rules, Shown, Tally, first_named

SOURCE = (
    "AUTOMATIC1111/stable-diffusion-webui 1.10.1, extensions-builtin/Lora/networks.py, network*.py and "
    "ui_extra_networks_lora.py (read as lshqqytiger/stable-diffusion-webui-amdgpu e61addd)"
)
ENDINGS = {**KOHYA, **PEFT, **DORA, **LYCORIS, **OFT, **IA3}
# Under diffusers' names; the arithmetic puts SDXL's first upsampler where SD 1.x has it.
_MISPLACED = {
    SD1: ("conv_norm_out",),
    SD2: ("conv_norm_out",),
    SDXL: ("conv_norm_out", "add_embedding.linear_1", "add_embedding.linear_2", "up_blocks.0.upsamplers.0.conv"),
}
_TEXT_PREFIXES = {(SD1, TEXT): ("lora_te_", "lora_te1_"), (SD2, TEXT): ("lora_te_",), (SDXL, TEXT): ("lora_te1_",)}
_ATTENTION = re.compile(r"(.*)_(q|k|v|out)_proj$")
_VERSIONS = {SD1: "SD1", SD2: "SD2", SDXL: "SDXL"}


def names(model: Model) -> Names:
    """Return each name of a module that is found in the model."""
    found: dict[str, Layer] = {}
    for layer in model.layers:
        for name in _unet_names(layer, model.family) if layer.part == UNET else _text_names(layer, model):
            found[name] = layer
    return found


def _unet_names(layer: Layer, family: str) -> Iterable[str]:
    yield f"lora_unet_{layer.flat_sgm}"
    yield f"oft_unet_{layer.flat_sgm}"
    if layer.path not in _MISPLACED[family]:
        yield f"lora_unet_{layer.flat}"


def _text_names(layer: Layer, model: Model) -> Iterable[str]:
    if layer.part in model.fused and (layer.norm or "layers" not in layer.path):
        return ()  # OpenCLIP's norms and projection have other names
    prefixes = _TEXT_PREFIXES.get((model.family, layer.part), ("lora_te2_",))
    return (prefix + layer.flat for prefix in prefixes)


def take(sheet: Sheet, model: Model) -> Tally:
    """Which modules are applied."""
    tally = Tally()
    if odd := next(odd_alphas(sheet), None):
        return tally.refuse(f"{odd} is not one number, which stops the file.")
    groups, unknown = gather(sheet, ENDINGS, names(model))
    stems = {group.stem for group in groups}
    tally.lose(
        "no layer of that name is known; passed over without a word in the log.",
        [name for name in unknown if not name.startswith("bundle_emb.") and module_of(name) not in stems],
    )
    broken = [group.stem for group in groups if not _complete(group)]
    broken += [name for name in unknown if module_of(name) in stems]
    if broken:
        return tally.refuse(f"The tensors of {first_named(broken, 1)} are of no method it knows, which stops the file.")
    halved = _halved(groups, model)
    tally.lose("its text encoder fuses q, k, v and out, and takes them only all four together.", sorted(halved))
    whole = [group for group in groups if group.stem not in halved]
    tally.take(whole, "counted as an error", SCRAMBLED)
    return tally


def _complete(group: Group) -> bool:
    needs = {"norm": "b_norm", "GLoRA": "alpha"}.get(group.kind or "")
    return group.kind is not None and (needs is None or needs in group.tensors)


def _halved(groups: Iterable[Group], model: Model) -> set[str]:
    """Modules of fused attention whose companions are missing."""
    held: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for group in groups:
        match = _ATTENTION.match(group.stem)
        if group.layer.part in model.fused and match:
            held[match[1]][match[2]] = group.stem
    return {stem for found in held.values() if len(found) < 4 for stem in found.values()}


def version(sheet: Sheet) -> str:
    """Which base A1111 takes the file to be for."""
    if sheet.metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    if sheet.metadata.get("ss_v2") == "True":
        return "SD2"
    return "SD1" if sheet.metadata else "unknown"


def show(sheet: Sheet, model: Model) -> Shown:
    """How the card looks."""
    found = version(sheet)
    hidden = ""
    if found not in ("unknown", _VERSIONS[model.family]):
        hidden = (
            f"Its metadata reads as {found}, so it is hidden while {TITLES[model.family]} is loaded; typing "
            "<lora:name:1> still works."
        )
    remarks = [*said.alias_remarks(sheet), *said.hash_remarks(sheet)]
    tags = said.tags(sheet)
    if tags:
        remarks.append("Trigger words are not inserted on a click; the tags of the captions can be clicked.")
    return Shown(found, hidden, tags, said.embedded_cover(sheet), tuple(remarks))


A1111 = Rules("A1111", SOURCE, take, show)
