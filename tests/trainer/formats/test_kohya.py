"""Names, as other programs have them; written out, because names computed here would prove nothing."""

import pytest

from trainer.formats.kohya import match, text_encoder_name, unet_name

UNET = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "mid_block.attentions.0.proj_in",
    "up_blocks.1.resnets.0.conv1",
]
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.11.mlp.fc2"]
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
OUT = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_out_0"
TE = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (UNET[0], Q),
        (UNET[1], OUT),
        (UNET[2], "lora_unet_mid_block_attentions_0_proj_in"),
        (UNET[3], "lora_unet_up_blocks_1_resnets_0_conv1"),
        (
            "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
            "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2",
        ),
        (
            "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj",
            "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj",
        ),
    ],
)
def test_unet_names(path, name):
    assert unet_name(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("encoder.layers.0.self_attn.q_proj", TE),
        ("text_model.encoder.layers.0.self_attn.q_proj", TE),
        ("encoder.layers.11.mlp.fc2", "lora_te_text_model_encoder_layers_11_mlp_fc2"),
    ],
)
def test_text_encoder_names_are_the_same_for_transformers_4_and_5(path, name):
    assert text_encoder_name(path) == name


# The two tensors of one module in each form that a trainer has written.
FORMS = {
    "kohya": (f"{Q}.lora_down.weight", f"{Q}.lora_up.weight"),
    "kohya, A and B": (f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"),
    "diffusers": (f"unet.{UNET[0]}.lora_A.weight", f"unet.{UNET[0]}.lora_B.weight"),
    "diffusers 0.21": (f"unet.{UNET[0]}.lora.down.weight", f"unet.{UNET[0]}.lora.up.weight"),
    "diffusers 0.17": (
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
    ),
    "PEFT": (f"base_model.model.{UNET[0]}.lora_A.weight", f"base_model.model.{UNET[0]}.lora_B.weight"),
    "PEFT in memory": (f"{UNET[0]}.lora_A.default.weight", f"{UNET[0]}.lora_B.default.weight"),
}
TEXT_FORMS = {
    "kohya": (f"{TE}.lora_down.weight", f"{TE}.lora_up.weight"),
    "numbered": (
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
    ),
    "names taken from transformers 5": (
        "lora_te_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te_encoder_layers_0_self_attn_q_proj.lora_up.weight",
    ),
    "diffusers": (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight",
    ),
    "diffusers 0.21": (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight",
    ),
    "PEFT": (
        "base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight",
    ),
}


@pytest.mark.parametrize(
    ("names", "target"),
    [(names, (Q, ("unet", UNET[0]))) for names in FORMS.values()]
    + [(names, (TE, ("text_encoder", TEXT[0]))) for names in TEXT_FORMS.values()],
)
def test_every_form_is_resolved(names, target):
    found = match(names, UNET, TEXT)
    assert found.modules == dict([target])
    assert found.roles == {names[0]: (target[0], "down"), names[1]: (target[0], "up")}
    assert found.unmatched == ()


def test_modules_keep_the_path_of_the_model_at_hand():
    names = [f"{TE}.lora_down.weight", f"{TE}.lora_up.weight", f"{TE}.alpha"]
    found = match(names, UNET, [f"text_model.{path}" for path in TEXT])
    assert found.modules == {TE: ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj")}
    assert found.roles[f"{TE}.alpha"] == (TE, "alpha")


def test_the_output_projection_of_the_oldest_diffusers_form():
    stem = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora"
    assert set(match([f"{stem}.down.weight", f"{stem}.up.weight"], UNET, TEXT).modules) == {OUT}


def test_nothing_is_dropped_in_silence():
    whole = [f"{Q}.lora_down.weight", f"{Q}.lora_up.weight"]
    strange = [
        "lora_unet_input_blocks_4_1_proj_in.lora_down.weight",  # SDXL
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        f"{Q}.hada_w1_a",  # LoHa
        f"{Q}.dora_scale",
        f"{Q}.lora_A.weight",  # the same half again
        f"{OUT}.lora_up.weight",  # half a module
        f"{OUT}.alpha",
    ]
    found = match(whole + strange, UNET, TEXT)
    assert set(found.modules) == {Q}
    assert set(found.roles) == set(whole)
    assert sorted(found.unmatched) == sorted(strange)
