"""The diffusers configs of a checkpoint's parts, inferred from its tensors' shapes.

So full-size files, pruned ones and tiny ones of tests take the same road, and no config has to be fetched. What shapes
cannot tell (heads, activation, scaling factor) follows the family, as in the configs published with the models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.contract.errors import UserError
from trainer.formats.checkpoint import WHERE, Checkpoint, Prediction

Shapes = Mapping[str, tuple[int, ...]]

SCALING_FACTORS = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}  # of the VAE's latents
HEAD_SIZE = 64
SD1_HEADS = 8
SIZE_NUMBERS = 6  # SDXL's size conditioning: original height and width, crop top and left, target height and width
VIT_H_LAYERS = 23  # SD 2.x reads OpenCLIP's ViT-H at its last but one layer; converted files may lack the last


@dataclass(frozen=True)
class TextNames:
    """Names in a text encoder. CLIP's are those of transformers, OpenCLIP's its own.

    Attributes:
        tokens, positions, inner: tensors whose shapes are [V, D], [L, D], [4D, D].
        layer: beginning of a layer's names, as a regular expression with its number.
        activation: transformers' name of it.
    """

    tokens: str
    positions: str
    inner: str
    layer: str
    activation: str


CLIP = TextNames(
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    "encoder.layers.0.mlp.fc1.weight",
    r"encoder\.layers\.(\d+)\.",
    "quick_gelu",
)
OPEN_CLIP = TextNames(
    "token_embedding.weight",
    "positional_embedding",
    "transformer.resblocks.0.mlp.c_fc.weight",
    r"transformer\.resblocks\.(\d+)\.",
    "gelu",
)
TEXT_PROJECTION = "text_projection"  # of OpenCLIP, [D, projection_dim]


def resolution_of(family: str, prediction: Prediction) -> int:
    """Side of the square that a family was made for, in pixels."""
    return {"sd1": 512, "sd2": 768 if prediction == "v_prediction" else 512, "sdxl": 1024}[family]


def config_of(checkpoint: Checkpoint, part: str, prediction: Prediction) -> dict[str, Any]:
    """The config of one part as diffusers or transformers writes it.

    Raises:
        UserError: the part is missing, lacks tensors, or is built in a way that diffusers has no config for.
    """
    shapes = checkpoint.shapes(part)
    name = checkpoint.path.name
    if not shapes:
        fix = "Give a VAE as model.vae." if part == "vae" else "Get the whole checkpoint."
        raise UserError(f"'{name}' holds no {part}", WHERE, fix)
    try:
        if part == "unet":
            return unet_config(shapes, checkpoint, resolution_of(checkpoint.family, prediction))
        if part == "vae":
            return vae_config(shapes, checkpoint.family, resolution_of(checkpoint.family, prediction))
        return text_config(shapes, drop_last=checkpoint.family == "sd2")
    except KeyError as error:
        problem = f"the {part} of '{name}' lacks the tensor {error.args[0]}"
        raise UserError(problem, WHERE, "Get a complete copy of the checkpoint.") from error
    except (ValueError, IndexError) as error:
        problem = f"the {part} of '{name}' is built in an unknown way ({error})"
        raise UserError(problem, WHERE, "Give the checkpoint it was made from.") from error


def unet_config(shapes: Shapes, checkpoint: Checkpoint, resolution: int) -> dict[str, Any]:
    """The config of a UNet2DConditionModel.

    Raises:
        KeyError: a tensor is missing.
        ValueError: it has no such config.
    """
    levels = _levels(shapes)
    layers = _only({len(level) for level in levels}, "layers per block")
    channels = [shapes[f"input_blocks.{level[0]}.0.in_layers.2.weight"][0] for level in levels]
    down = [[_depth(shapes, f"input_blocks.{block}") for block in level] for level in levels]
    up = [
        [_depth(shapes, f"output_blocks.{level * (layers + 1) + block}") for block in range(layers + 1)]
        for level in range(len(levels))
    ]
    middle = _depth(shapes, "middle_block")
    attention = next((name[: name.index("transformer_blocks")] for name in shapes if "transformer_blocks" in name), "")
    sd1 = checkpoint.family == "sd1"
    config = {
        "sample_size": resolution // 8,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in down],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        "up_block_types": ["CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up],
        "cross_attention_dim": shapes[f"{attention}transformer_blocks.0.attn2.to_k.weight"][1],
        # diffusers calls the number of heads so
        "attention_head_dim": SD1_HEADS if sd1 else [max(1, width // HEAD_SIZE) for width in channels],
        "use_linear_projection": len(shapes[f"{attention}proj_in.weight"]) == 2,
        "norm_num_groups": 32,
        **_depths(down, up),
    }
    if checkpoint.family == "sdxl":
        pooled = checkpoint.shapes("text_encoder_2")[TEXT_PROJECTION][1]
        width = shapes["label_emb.0.0.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (width - pooled) // SIZE_NUMBERS,
            "projection_class_embeddings_input_dim": width,
        }
    return config


def vae_config(shapes: Shapes, family: str, resolution: int) -> dict[str, Any]:
    """The config of an AutoencoderKL from LDM's or diffusers' names.

    Raises:
        KeyError: a tensor is missing.
        ValueError: it has no such config.
    """
    pattern = re.compile(r"encoder\.down(?:_blocks)?\.(\d+)\.(?:block|resnets)\.(\d+)\.conv1\.weight")
    found = {(int(match[1]), int(match[2])): shape for name, shape in shapes.items() if (match := pattern.match(name))}
    levels = 1 + max((level for level, _ in found), default=-1)
    return {
        "sample_size": resolution,
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [found[level, 0][0] for level in range(levels)],
        "layers_per_block": _only({sum(at == level for at, _ in found) for level in range(levels)}, "layers per block"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": 32,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "scaling_factor": SCALING_FACTORS[family],
    }


def text_config(shapes: Shapes, drop_last: bool = False) -> dict[str, Any]:
    """The config of a CLIPTextModel, with or without projection.

    Args:
        shapes: the encoder's tensors under CLIP's or OpenCLIP's names.
        drop_last: leave out the last layer, which SD 2.x does not read.

    Raises:
        KeyError: a tensor is missing.
    """
    names = CLIP if CLIP.tokens in shapes else OPEN_CLIP
    vocabulary, width = shapes[names.tokens]
    layers = 1 + max(int(match[1]) for name in shapes if (match := re.match(names.layer, name)))
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[names.inner][0],
        "num_hidden_layers": layers - (drop_last and layers != VIT_H_LAYERS),
        "num_attention_heads": max(1, width // HEAD_SIZE),
        "max_position_embeddings": shapes[names.positions][0],
        "projection_dim": shapes[TEXT_PROJECTION][1] if TEXT_PROJECTION in shapes else width,
        "hidden_act": names.activation,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def _levels(shapes: Shapes) -> list[list[int]]:
    """The numbers of the input blocks at each resolution; a downsampler (`op`) stands between two."""
    count = len({name.split(".")[1] for name in shapes if name.startswith("input_blocks.")})
    levels: list[list[int]] = [[]]
    for block in range(1, count):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            levels.append([])
        else:
            levels[-1].append(block)
    return levels


def _depth(shapes: Shapes, block: str) -> int:
    """How many transformer blocks a block has; 0 without attention."""
    start = f"{block}.1.transformer_blocks."
    return len({name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)})


def _depths(down: Sequence[Sequence[int]], up: Sequence[Sequence[int]]) -> dict[str, Any]:
    """transformer_layers_per_block, and its reverse where the way up is not the way down mirrored (as in SSD-1B)."""
    shorter = [[depth or 1 for depth in level] for level in (*down, *up)]  # diffusers writes 1 where there is none
    if any(len({bool(depth) for depth in level}) > 1 for level in (*down, *up)):
        raise ValueError("attention in some layers of a block only")
    falling, rising = shorter[: len(down)], shorter[len(down) :]
    plain = [level[0] for level in falling]
    if all(set(level) == {depth} for level, depth in zip(falling + rising, plain + plain[::-1], strict=True)):
        return {"transformer_layers_per_block": 1 if set(plain) == {1} else plain}
    return {"transformer_layers_per_block": falling, "reverse_transformer_layers_per_block": rising}


def _only(values: set[int], what: str) -> int:
    """The one value there is."""
    if len(values) != 1 or 0 in values:
        raise ValueError(f"{what}: {sorted(values)}")
    return values.pop()
