"""Kohya's module names as diffusers and PEFT have them: `unet.` or `text_encoder.` before the dotted path.

Kohya's names have lost the dots. Which underscores were dots is told by the words that the paths are made of; SDXL's
block names (SGM's) count layers in another way, so they are looked up among the layers of a UNet.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from trainer.contract.errors import UserError
from trainer.formats.clients.models import SDXL, UNET, model_of
from trainer.formats.kohya import DOWN, UP
from trainer.formats.sgm import sgm_paths

ENDINGS = {DOWN: ".lora_A.weight", UP: ".lora_B.weight"}  # kohya's -> PEFT's; PEFT's files hold no alpha

_PARTS = {
    "lora_te1_": "text_encoder.",
    "lora_te2_": "text_encoder_2.",
    "lora_te_": "text_encoder.",
    "lora_unet_": "unet.",
}
_SGM = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_")
# Parts of a path that have an underscore of their own.
_WORDS = (
    "down_blocks", "mid_block", "up_blocks", "transformer_blocks", "proj_in", "proj_out", "to_q", "to_k", "to_v",
    "to_out", "conv_in", "conv_out", "conv_norm_out", "conv_shortcut", "time_emb_proj", "time_embedding",
    "add_embedding", "linear_1", "linear_2", "text_model", "text_projection", "self_attn", "q_proj", "k_proj", "v_proj",
    "out_proj", "layer_norm1", "layer_norm2", "final_layer_norm",
)  # fmt: skip
_STEP = re.compile(rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))}|[^_]+)(?:_|$)")


def peft_modules(modules: Iterable[str], unet: Collection[str] = ()) -> dict[str, str]:
    """Return kohya name of a module -> the same with part and dots, as `unet.down_blocks.0...attn1.to_q`.

    Args:
        modules: such as `lora_unet_down_blocks_0_attentions_0_proj_in`.
        unet: paths of all layers of the UNet, in diffusers, that SGM's block names are of; the published SDXL's where
            none are given.

    Raises:
        UserError: a name that is not kohya's, or of no layer of that UNet.
    """
    known: Mapping[str, str] | None = None
    found = {}
    for module in modules:
        prefix = next((prefix for prefix in _PARTS if module.startswith(prefix)), "")
        path = module.removeprefix(prefix)
        if prefix == "lora_unet_" and path.startswith(_SGM):
            known = known or _sgm_to_diffusers(unet)
            path = known.get(path, "")
        else:
            path = ".".join(_STEP.findall(path))
        if not prefix or not path:
            problem = "this is no module name of kohya's for Stable Diffusion 1.x, 2.x or SDXL"
            raise UserError(problem, module, "See what the file holds: atelier inspect.")
        found[module] = _PARTS[prefix] + path
    return found


def _sgm_to_diffusers(unet: Collection[str]) -> dict[str, str]:
    """Flattened path in SGM -> path in diffusers."""
    paths = unet or [layer.path for layer in model_of(SDXL).layers if layer.part == UNET]
    return {sgm.replace(".", "_"): path for path, sgm in sgm_paths(paths).items()}
