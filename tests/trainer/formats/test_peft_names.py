"""Kohya's module names as diffusers has them: literal ones, and every layer of the published bases."""

import pytest

from trainer.contract.errors import UserError
from trainer.formats.clients.models import SD1, SD2, SDXL, model_of
from trainer.formats.kohya import module_names
from trainer.formats.peft_names import peft_modules

LITERAL = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0": (
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    ),
    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj": (
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj"
    ),
    "lora_unet_mid_block_attentions_0_proj_in": "unet.mid_block.attentions.0.proj_in",
    "lora_unet_down_blocks_1_resnets_0_time_emb_proj": "unet.down_blocks.1.resnets.0.time_emb_proj",
    "lora_unet_down_blocks_1_resnets_0_conv_shortcut": "unet.down_blocks.1.resnets.0.conv_shortcut",
    "lora_unet_time_embedding_linear_1": "unet.time_embedding.linear_1",
    "lora_unet_conv_in": "unet.conv_in",
    "lora_te_text_model_encoder_layers_11_self_attn_q_proj": (
        "text_encoder.text_model.encoder.layers.11.self_attn.q_proj"
    ),
    "lora_te2_text_model_encoder_layers_31_mlp_fc2": "text_encoder_2.text_model.encoder.layers.31.mlp.fc2",
    # SDXL's, in SGM's names
    "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": (
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"
    ),
    "lora_unet_middle_block_1_proj_out": "unet.mid_block.attentions.0.proj_out",
    "lora_unet_middle_block_2_in_layers_2": "unet.mid_block.resnets.1.conv1",
    "lora_unet_output_blocks_2_1_transformer_blocks_9_ff_net_2": (
        "unet.up_blocks.0.attentions.2.transformer_blocks.9.ff.net.2"
    ),
    "lora_unet_output_blocks_2_2_conv": "unet.up_blocks.0.upsamplers.0.conv",
    "lora_unet_input_blocks_3_0_op": "unet.down_blocks.0.downsamplers.0.conv",
    "lora_unet_out_2": "unet.conv_out",
}


def test_literal_names():
    assert peft_modules(LITERAL) == LITERAL


@pytest.mark.parametrize("family", [SD1, SD2, SDXL])
def test_every_layer_of_a_published_base_comes_back(family):
    paths = {}
    for layer in model_of(family).layers:
        paths.setdefault(layer.part, []).append(layer.path)
    written = module_names(paths)
    assert peft_modules(written.values()) == {name: f"{part}.{path}" for (part, path), name in written.items()}


@pytest.mark.parametrize("name", ["unet.conv_in", "lora_unet_input_blocks_40_1_proj_in", "lora_te_"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="no module name"):
        peft_modules([name])
