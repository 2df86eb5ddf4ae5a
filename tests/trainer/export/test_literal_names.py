"""Files of every family in full size, compared with names and sizes written down here from kohya's own files.

The models are skeletons without memory; only the adapters' numbers are real.
"""

import json
from dataclasses import replace
from itertools import product

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.full_size import TEXTS, UNETS
from tests.trainer.export.test_kohya_export import FACTS
from trainer.contract.config import AdapterSection
from trainer.export.facts import _network_args
from trainer.export.kohya import export_adapter
from trainer.families.sd import TEXT_TARGETS, UNET_TARGETS, _paths
from trainer.formats.sizes import is_spatial, sizes_of
from trainer.protocols import Target

COUNTS = {"sd1": (192, 72), "sd2": (192, 138), "sdxl": (722, 264)}
VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2_v", "sdxl": "sdxl_base_v1-0"}
ENDINGS = ("alpha", "lora_down.weight", "lora_up.weight")


def transformer(at, depth):
    block = [
        *(f"attn{attention}_to_{what}" for attention, what in product((1, 2), ("q", "k", "v", "out_0"))),
        "ff_net_0_proj",
        "ff_net_2",
    ]
    inner = (f"{at}_transformer_blocks_{index}_{name}" for index, name in product(range(depth), block))
    return {f"lora_unet_{at}_proj_in", f"lora_unet_{at}_proj_out", *(f"lora_unet_{name}" for name in inner)}


def text(prefix, layers):
    names = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")
    return {f"{prefix}_text_model_encoder_layers_{index}_{name}" for index, name in product(range(layers), names)}


SD_BLOCKS = [f"down_blocks_{block}_attentions_{layer}" for block, layer in product((0, 1, 2), (0, 1))] + [
    "mid_block_attentions_0",
    *(f"up_blocks_{block}_attentions_{layer}" for block, layer in product((1, 2, 3), (0, 1, 2))),
]
XL_BLOCKS = {
    "input_blocks_4_1": 2, "input_blocks_5_1": 2, "input_blocks_7_1": 10, "input_blocks_8_1": 10, "middle_block_1": 10,
    "output_blocks_0_1": 10, "output_blocks_1_1": 10, "output_blocks_2_1": 10, "output_blocks_3_1": 2,
    "output_blocks_4_1": 2, "output_blocks_5_1": 2,
}  # fmt: skip
UNET = {
    "sd1": set().union(*(transformer(at, 1) for at in SD_BLOCKS)),
    "sd2": set().union(*(transformer(at, 1) for at in SD_BLOCKS)),
    "sdxl": set().union(*(transformer(at, depth) for at, depth in XL_BLOCKS.items())),
}
TEXT = {
    "sd1": text("lora_te", 12),
    "sd2": text("lora_te", 23),
    "sdxl": text("lora_te1", 12) | text("lora_te2", 32),
}
RESNET = ("conv1", "conv2", "time_emb_proj")
SD_RESNETS = [
    *(f"down_blocks_{block}_resnets_{layer}" for block, layer in product(range(4), (0, 1))),
    "mid_block_resnets_0",
    "mid_block_resnets_1",
    *(f"up_blocks_{block}_resnets_{layer}" for block, layer in product(range(4), (0, 1, 2))),
]
SD_SHORT = ["down_blocks_1_resnets_0", "down_blocks_2_resnets_0", *(name for name in SD_RESNETS if name[:2] == "up")]
SD_CONVOLUTIONS = {
    *(f"lora_unet_{at}_{name}" for at, name in product(SD_RESNETS, RESNET)),
    *(f"lora_unet_{at}_conv_shortcut" for at in SD_SHORT),
    *(f"lora_unet_down_blocks_{block}_downsamplers_0_conv" for block in (0, 1, 2)),
    *(f"lora_unet_up_blocks_{block}_upsamplers_0_conv" for block in (0, 1, 2)),
}
XL_RESNETS = [
    *(f"input_blocks_{index}_0" for index in (1, 2, 4, 5, 7, 8)),
    "middle_block_0",
    "middle_block_2",
    *(f"output_blocks_{index}_0" for index in range(9)),
]
XL_SHORT = ["input_blocks_4_0", "input_blocks_7_0", *(name for name in XL_RESNETS if name[:3] == "out")]
CONVOLUTIONS = {
    "sd1": SD_CONVOLUTIONS,
    "sd2": SD_CONVOLUTIONS,
    "sdxl": {
        *(
            f"lora_unet_{at}_{name}"
            for at, name in product(XL_RESNETS, ("in_layers_2", "out_layers_3", "emb_layers_1"))
        ),
        *(f"lora_unet_{at}_skip_connection" for at in XL_SHORT),
        "lora_unet_input_blocks_3_0_op",
        "lora_unet_input_blocks_6_0_op",
        "lora_unet_output_blocks_2_2_conv",
        "lora_unet_output_blocks_5_2_conv",
    },
}
SHAPES = {  # module -> sides of down and up, R the rank
    "sd1": {
        "lora_unet_down_blocks_0_attentions_0_proj_in": (("R", 320, 1, 1), (320, "R", 1, 1)),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k": (("R", 768), (320, "R")),
        "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj": (("R", 1280), (10240, "R")),
        "lora_te_text_model_encoder_layers_11_mlp_fc1": (("R", 768), (3072, "R")),
        "lora_unet_down_blocks_0_downsamplers_0_conv": (("R", 320, 3, 3), (320, "R", 1, 1)),
    },
    "sd2": {
        "lora_unet_down_blocks_0_attentions_0_proj_in": (("R", 320), (320, "R")),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k": (("R", 1024), (320, "R")),
        "lora_te_text_model_encoder_layers_22_self_attn_q_proj": (("R", 1024), (1024, "R")),
    },
    "sdxl": {
        "lora_unet_input_blocks_4_1_proj_in": (("R", 640), (640, "R")),
        "lora_unet_output_blocks_0_1_transformer_blocks_9_attn2_to_v": (("R", 2048), (1280, "R")),
        "lora_te1_text_model_encoder_layers_0_mlp_fc2": (("R", 3072), (768, "R")),
        "lora_te2_text_model_encoder_layers_31_self_attn_out_proj": (("R", 1280), (1280, "R")),
        "lora_unet_output_blocks_2_2_conv": (("R", 1280, 3, 3), (1280, "R", 1, 1)),
    },
}


def skeleton(family) -> dict[str, nn.Module]:
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    with torch.device("meta"):
        texts = {part: kinds[part](CLIPTextConfig(**config)) for part, config in TEXTS[family].items()}
        return {"unet": UNet2DConditionModel(**UNETS[family]), **texts}


def exported(path, family, options) -> tuple[dict, dict]:
    """The header of a file, read as JSON and not by our reader: (tensors, metadata)."""
    parts = skeleton(family)
    encoders = list(TEXTS[family]) if options.text_encoder else []
    shapes = {Target("unet", at): parts["unet"].get_submodule(at).weight.shape
              for at in _paths(parts["unet"], UNET_TARGETS[options.targets])}  # fmt: skip
    shapes |= {Target(part, at): parts[part].get_submodule(at).weight.shape
               for part in encoders for at in _paths(parts[part], TEXT_TARGETS)}  # fmt: skip
    adapter = {}
    for target, size in sizes_of(shapes, options).items():
        height, width, *kernel = shapes[target]
        inner = kernel if is_spatial(shapes[target]) else [1] * len(kernel)
        adapter[target] = {
            "lora_down.weight": torch.full((size.rank, width, *inner), 0.01),
            "lora_up.weight": torch.full((height, size.rank, *[1] * len(kernel)), 0.01),
            "alpha": torch.tensor(size.alpha),
        }
    layout = {part: [name for name, _ in root.named_modules()] for part, root in parts.items()}
    alpha = options.scale * options.rank
    facts = replace(FACTS, base_version=VERSIONS[family], rank=options.rank, alpha=alpha,
                    network_args=_network_args(options), has_text_encoder=options.text_encoder)  # fmt: skip
    export_adapter(path, adapter, layout, facts, "fp16")
    blob = path.read_bytes()
    start = 8 + int.from_bytes(blob[:8], "little")
    tensors = json.loads(blob[8:start])
    metadata = tensors.pop("__metadata__")
    for name, about in tensors.items():
        if name.endswith(".alpha"):
            begin, end = about["data_offsets"]
            held = torch.frombuffer(bytearray(blob[start + begin : start + end]), dtype=torch.float16)
            about["value"] = float(held)
    return tensors, metadata


def names_of(modules):
    return {f"{module}.{ending}" for module, ending in product(modules, ENDINGS)}


@pytest.mark.parametrize("with_text", [False, True], ids=["unet", "unet and text"])
@pytest.mark.parametrize("family", COUNTS)
def test_a_plain_adapter(tmp_path, family, with_text):
    options = AdapterSection(rank=2, alpha=1.0, text_encoder=with_text)
    tensors, metadata = exported(tmp_path / "mine.safetensors", family, options)
    assert (len(UNET[family]), len(TEXT[family])) == COUNTS[family]
    assert tensors.keys() == names_of(UNET[family] | (TEXT[family] if with_text else set()))
    for module, (down, up) in SHAPES[family].items():
        if f"{module}.alpha" in tensors:
            assert tensors[f"{module}.lora_down.weight"]["shape"] == [2 if side == "R" else side for side in down]
            assert tensors[f"{module}.lora_up.weight"]["shape"] == [2 if side == "R" else side for side in up]
    assert {about["dtype"] for about in tensors.values()} == {"F16"}
    assert {tuple(about["shape"]) for name, about in tensors.items() if name.endswith("alpha")} == {()}
    assert {about["value"] for about in tensors.values() if "value" in about} == {1.0}
    expected = {
        "ss_base_model_version": VERSIONS[family],
        "ss_v2": str(family == "sd2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": "2",
        "ss_network_alpha": "1",
    }
    assert {key: metadata[key] for key in expected} == expected


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("family", COUNTS)
def test_with_convolutions_and_ranks_by_block(tmp_path, family, rslora):
    options = AdapterSection(
        rank=4, alpha=2.0, targets="everything", conv_rank=1, text_encoder=True, rslora=rslora, ranks={"mid_block.*": 3}
    )
    tensors, metadata = exported(tmp_path / "mine.safetensors", family, options)
    modules = UNET[family] | TEXT[family] | CONVOLUTIONS[family]
    assert tensors.keys() == names_of(modules)
    middle = ("lora_unet_mid_block_", "lora_unet_middle_block_")
    attention = tuple(f"_to_{what}" for what in ("q", "k", "v", "out_0"))
    for module in modules:
        down, up = (tensors[f"{module}.lora_{name}.weight"]["shape"] for name in ("down", "up"))
        spatial = down[2:] == [3, 3]
        # diffusers does not take an alpha of attention layers by themselves: they have one rank, filled up with zeros.
        rank = 4 if module.endswith(attention) else 3 if module.startswith(middle) else 1 if spatial else 4
        assert down[0] == up[1] == rank, module
        assert up[2:] == [1] * len(down[2:]), module
        if module in SHAPES[family]:
            sides = SHAPES[family][module]
            assert [down, up] == [[rank if side == "R" else side for side in some] for some in sides]
        # 2 / sqrt(4) is what a rank of 4 is scaled by with rsLoRA: over 4 it is 4. In a UNet of several ranks the rank.
        wanted = rank if module.startswith("lora_unet") else 4.0 if rslora else 2.0
        assert tensors[f"{module}.alpha"]["value"] == wanted, module
    alpha = 4.0
    args = json.loads(metadata["ss_network_args"])
    assert metadata["ss_network_alpha"] == f"{alpha:g}" and args["conv_dim"] == 1
    assert args["conv_alpha"] == 0.5, "half of the rank, and the root of 1 is 1"
