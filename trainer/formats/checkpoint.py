"""Single-file checkpoints in the original layout (LDM's for SD 1.x and 2.x, SGM's for SDXL), told apart by the header.

Names, shapes and metadata say what a file is; no tensor is read but one, where only its values tell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.formats.header import Header, read_header

Prediction = Literal["epsilon", "v_prediction"]

WHERE = "model.base"
UNET = "model.diffusion_model."
CONV_IN = UNET + "input_blocks.0.0.weight"  # [C, in_channels, 3, 3]
LATENT_CHANNELS = 4
OTHER_INPUTS = {
    5: "a depth model",
    7: "an upscaler",
    8: "an instruct-pix2pix (or video) model",
    9: "an inpainting model",
}
V_DEVIATION = 0.09  # of the bias in `_answers_v`; between what SD 2.x of either kind have
_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v": "v_prediction"}  # modelspec.prediction_type


@dataclass(frozen=True)
class Kind:
    """A kind of safetensors file.

    Attributes:
        title: what people call it, with an article.
        marks: regular expressions; it is this kind if each is found in one of the tensors' names.
        fix: what to give instead.
        family: name in the catalogue, empty where it cannot be trained.
    """

    title: str
    marks: tuple[str, ...]
    fix: str = ""
    family: str = ""


_LABELS = r"^model\.diffusion_model\.label_emb\."
_UNET = r"^model\.diffusion_model\.input_blocks\."

# The first row that fits counts. Adapters come first: their names hold those of the modules they change.
KINDS = (
    Kind(
        "a LoRA or another adapter, not a base model",
        (r"lora_|\.lora\.|lokr_w|hada_w|(^|\.)oft_|dora_scale|\.diff(_b)?$|\.on_input$",),
        "Give the checkpoint it was trained on.",
    ),
    Kind("a textual-inversion embedding", (r"^(emb_params|clip_[lg]|string_to_param.*|<[^>\n]+>)$",)),
    Kind("a ControlNet", (r"^(control_model\.|controlnet_|input_hint_block)",)),
    Kind(
        "a checkpoint with packed (quantised) weights",
        (r"\.(absmax|quant_map|quant_state.*|scale_weight|weight_scale)$|^scaled_fp8$",),
        "Get it in fp16, bf16 or fp32.",
    ),
    Kind("a Stable Diffusion 3 model", (r"(^|\.)joint_blocks\.\d",)),
    Kind("a Flux model", (r"(^|\.)(double|single)_blocks\.\d",)),
    Kind("a PixArt or Sana model", (r"(^|\.)blocks\.\d+\.cross_attn\.(kv_linear|q_linear)\.",)),
    Kind("an SDXL model on the EDM noise schedule (Playground 2.5, CosXL)", (r"^edm_(mean|vpred)",)),
    Kind(
        "the SDXL refiner",
        (r"^conditioner\.embedders\.0\.model\.", _LABELS),
        "Give the SDXL base, or a checkpoint made from it.",
    ),
    Kind("a Stable Diffusion 2 unCLIP model", (r"^cond_stage_model\.model\.|^embedder\.", _LABELS)),
    Kind(
        "a Stable Diffusion XL checkpoint",
        (_UNET, r"^conditioner\.embedders\.0\.transformer\.", r"^conditioner\.embedders\.1\.model\."),
        family="sdxl",
    ),
    Kind(
        "a Stable Diffusion 2.x checkpoint",
        (_UNET, r"^(cond_stage_model|conditioner\.embedders\.0)\.model\."),
        family="sd2",
    ),
    Kind("a Stable Diffusion 1.x checkpoint", (_UNET, r"^cond_stage_model\.transformer\."), family="sd1"),
    Kind(
        "a UNet without its text encoders",
        (r"^(model\.|unet\.)?(diffusion_model\.)?(input_blocks|down_blocks)\.\d",),
        "Get the whole checkpoint, with text encoders and VAE.",
    ),
    Kind(
        "a VAE alone",
        (r"^(first_stage_model\.|vae\.)?(encoder|decoder)\.(conv_in|down|up|mid)",),
        "It can be given as model.vae; the base is a whole checkpoint.",
    ),
    Kind("a text encoder alone", (r"(text_model|transformer\.resblocks|encoder\.block)\.",)),
)
EMPTY = Kind("a file without any tensor", (), "Download or export it again.")
UNKNOWN = Kind("a model of a kind that is not known here", ())

# Where the parts are: the beginning of their names, as a regular expression. SD 1.x merges of 2022 lack `text_model.`;
# SD-Turbo is an SD 2.x that SGM wrote.
PREFIXES: dict[str, dict[str, str]] = {
    "sd1": {"text_encoder": r"cond_stage_model\.transformer\.(?:text_model\.)?"},
    "sd2": {"text_encoder": r"(?:cond_stage_model|conditioner\.embedders\.0)\.model\."},
    "sdxl": {
        "text_encoder": r"conditioner\.embedders\.0\.transformer\.(?:text_model\.)?",
        "text_encoder_2": r"conditioner\.embedders\.1\.model\.",
    },
}
COMMON_PREFIXES = {  # an unpruned file holds the VAE's training loss too
    "unet": re.escape(UNET),
    "vae": r"first_stage_model\.(?=(?:encoder|decoder|quant_conv|post_quant_conv)\.)",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be trained.

    Attributes:
        path: the file.
        family: name in the catalogue.
        header: its names, shapes and metadata.
    """

    path: Path
    family: str
    header: Header

    def parts(self) -> tuple[str, ...]:
        """`unet`, `vae` and the text encoders, as a whole file of that family has them."""
        return *COMMON_PREFIXES, *PREFIXES[self.family]

    def names(self, part: str) -> dict[str, str]:
        """Name within a part -> name in the file; {} where the file lacks the part."""
        prefix = re.compile((COMMON_PREFIXES | PREFIXES[self.family])[part])
        found = ((prefix.match(name), name) for name in self.header.tensors)
        return {name[match.end() :]: name for match, name in found if match}

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Name within a part -> its sizes, outermost first."""
        return {short: self.header.tensors[name].shape for short, name in self.names(part).items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Tell from its header which family a checkpoint is of.

    Raises:
        UserError: it is no sound safetensors file, or something that cannot be trained.
    """
    header = read_header(path)
    if CONV_IN in header.tensors:
        refuse_inputs(header.tensors[CONV_IN].shape[1], path.name)
    kind = kind_of(header.tensors)
    if not kind.family:
        fix = f"{kind.fix} What can be trained: {known_families()}.".lstrip()
        raise UserError(f"'{path.name}' is {kind.title}", WHERE, fix)
    return Checkpoint(path, kind.family, header)


def kind_of(names: Mapping[str, object]) -> Kind:
    """What kind of file has tensors of these names."""
    lines = "\n".join(names)
    if not lines:
        return EMPTY
    fitting = (kind for kind in KINDS if all(re.search(mark, lines, re.MULTILINE) for mark in kind.marks))
    return next(fitting, UNKNOWN)


def refuse_inputs(channels: int, name: str) -> None:
    """Raise UserError for a UNet that wants more than the noisy latent."""
    if channels != LATENT_CHANNELS:
        title = OTHER_INPUTS.get(channels, "not a text-to-image model of Stable Diffusion 1.x, 2.x or XL")
        problem = f"'{name}' is {title}: its UNet takes {channels} channels"
        raise UserError(problem, WHERE, f"Give the text-to-image model it was made from ({LATENT_CHANNELS} channels).")


def known_families() -> str:
    """The families that can be trained, for a sentence."""
    return ", ".join(row.title for row in FAMILIES.values())


def prediction_of(checkpoint: Checkpoint) -> tuple[Prediction, bool]:
    """What the UNet answers, and whether its noise schedule ends in pure noise (arXiv 2305.08891).

    Marker tensors count first (`v_pred`, `ztsnr`: ComfyUI's convention, used by NoobAI), then the metadata
    (modelspec.prediction_type of the Stability model spec), then, for SD 2.x, which came in both, the weights.

    Raises:
        UserError: only the weights could tell, and they cannot be read.
    """
    tensors, said = checkpoint.header.tensors, checkpoint.header.metadata.get("modelspec.prediction_type", "")
    prediction: Prediction = _PREDICTIONS.get(said.lower().removesuffix("_prediction"), "epsilon")
    if "v_pred" in tensors or (not said and checkpoint.family == "sd2" and _answers_v(checkpoint)):
        prediction = "v_prediction"
    # An epsilon model cannot learn from pure noise: there, the marker would be a mistake.
    return prediction, "ztsnr" in tensors and prediction == "v_prediction"


def _answers_v(checkpoint: Checkpoint) -> bool:
    """Tell v- from epsilon-prediction by one bias, as A1111's and ComfyUI's loaders do."""
    pattern = re.compile(re.escape(UNET) + r"output_blocks\.(\d+)\.1\.transformer_blocks\.0\.norm1\.bias")
    found = [(int(match[1]), match[0]) for name in checkpoint.header.tensors if (match := pattern.fullmatch(name))]
    return bool(found) and float(read_vector(checkpoint, max(found)[1]).std()) > V_DEVIATION


def read_vector(checkpoint: Checkpoint, name: str) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Read one tensor from the file, flat, as float32 [N].

    Raises:
        UserError: it is of a number type that numpy does not know.
    """
    info = checkpoint.header.tensors[name]
    stored = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}.get(info.dtype)
    if stored is None:
        problem = (
            f"'{checkpoint.path.name}' does not say whether it predicts v or epsilon, and is stored in {info.dtype}"
        )
        raise UserError(problem, WHERE, "Get it in fp16, bf16 or fp32.")
    begin, end = info.offsets
    with checkpoint.path.open("rb") as file:
        file.seek(checkpoint.header.body_start + begin)
        numbers = np.frombuffer(file.read(end - begin), stored)
    if info.dtype == "BF16":  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32)
