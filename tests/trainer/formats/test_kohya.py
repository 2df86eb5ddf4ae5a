"""Names, as other programs have them; written out, because names computed here would prove nothing."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.formats.kohya import match, module_names

UNET = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "mid_block.attentions.0.proj_in",
    "up_blocks.1.resnets.0.conv1",
]
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.11.mlp.fc2"]
MODULES = {"unet": UNET, "text_encoder": TEXT}
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
    assert module_names({"unet": [path], "text_encoder": TEXT})["unet", path] == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("encoder.layers.0.self_attn.q_proj", TE),
        ("text_model.encoder.layers.0.self_attn.q_proj", TE),
        ("encoder.layers.11.mlp.fc2", "lora_te_text_model_encoder_layers_11_mlp_fc2"),
    ],
)
def test_text_encoder_names_are_the_same_for_transformers_4_and_5(path, name):
    assert module_names({"unet": UNET, "text_encoder": [path]})["text_encoder", path] == name


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
    found = match(names, MODULES)
    assert found.modules == dict([target])
    assert found.roles == {names[0]: (target[0], "down"), names[1]: (target[0], "up")}
    assert found.unmatched == ()


def test_modules_keep_the_path_of_the_model_at_hand():
    names = [f"{TE}.lora_down.weight", f"{TE}.lora_up.weight", f"{TE}.alpha"]
    found = match(names, {"unet": UNET, "text_encoder": [f"text_model.{path}" for path in TEXT]})
    assert found.modules == {TE: ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj")}
    assert found.roles[f"{TE}.alpha"] == (TE, "alpha")


def test_the_output_projection_of_the_oldest_diffusers_form():
    stem = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora"
    assert set(match([f"{stem}.down.weight", f"{stem}.up.weight"], MODULES).modules) == {OUT}


def test_nothing_is_dropped_in_silence():
    whole = [f"{Q}.lora_down.weight", f"{Q}.lora_up.weight"]
    strange = [
        "lora_unet_input_blocks_4_1_proj_in.lora_down.weight",  # SDXL
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        f"{Q}.hada_w1_a",  # LoHa
        f"{OUT}.dora_scale",
        f"{Q}.lora_A.weight",  # the same half again
        f"{OUT}.lora_up.weight",  # half a module
        f"{OUT}.alpha",
    ]
    found = match(whole + strange, MODULES)
    assert set(found.modules) == {Q}
    assert set(found.roles) == set(whole)
    assert sorted(found.unmatched) == sorted(strange)


def unet_layers(down: list[bool], up: list[bool], layers: int, samplers: bool = True) -> Iterator[str]:
    """Yield paths of a UNet as diffusers lays it out, a few of each layer.

    Args:
        down, up: whether each block has attention.
        layers: of a down block; an up block has one more.
        samplers: whether all blocks but the last change the size.
    """
    resnet, attention = ("conv1", "conv_shortcut"), ("proj_in", "transformer_blocks.0.attn1.to_out.0")
    yield from ("conv_in", "add_embedding.linear_2")
    for side, blocks, count in (("down", down, layers), ("up", up, layers + 1)):
        for block, attends in enumerate(blocks):
            for layer in range(count):
                yield from (f"{side}_blocks.{block}.resnets.{layer}.{part}" for part in resnet)
                yield from (f"{side}_blocks.{block}.attentions.{layer}.{part}" for part in attention if attends)
            if samplers and block < len(blocks) - 1:
                yield f"{side}_blocks.{block}.{side}samplers.0.conv"
    for layer in range(2):
        yield f"mid_block.resnets.{layer}.time_emb_proj"
    yield "mid_block.attentions.0.proj_out"


SDXL = {
    "unet": list(unet_layers([False, True, True], [True, True, False], 2)),
    "text_encoder": TEXT,
    "text_encoder_2": ["text_model.encoder.layers.31.self_attn.out_proj", "text_projection"],
}


@pytest.mark.parametrize(
    ("part", "path", "name"),
    [
        ("unet", "conv_in", "lora_unet_input_blocks_0_0"),
        ("unet", "add_embedding.linear_2", "lora_unet_label_emb_0_2"),
        ("unet", "down_blocks.0.resnets.1.conv1", "lora_unet_input_blocks_2_0_in_layers_2"),
        ("unet", "down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
        ("unet", "down_blocks.1.resnets.0.conv_shortcut", "lora_unet_input_blocks_4_0_skip_connection"),
        ("unet", "down_blocks.1.attentions.0.proj_in", "lora_unet_input_blocks_4_1_proj_in"),
        (
            "unet",
            "down_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0",
            "lora_unet_input_blocks_8_1_transformer_blocks_0_attn1_to_out_0",
        ),
        ("unet", "mid_block.resnets.0.time_emb_proj", "lora_unet_middle_block_0_emb_layers_1"),
        ("unet", "mid_block.attentions.0.proj_out", "lora_unet_middle_block_1_proj_out"),
        ("unet", "mid_block.resnets.1.time_emb_proj", "lora_unet_middle_block_2_emb_layers_1"),
        ("unet", "up_blocks.0.attentions.0.proj_in", "lora_unet_output_blocks_0_1_proj_in"),
        ("unet", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"),
        ("unet", "up_blocks.1.attentions.2.proj_in", "lora_unet_output_blocks_5_1_proj_in"),
        ("unet", "up_blocks.2.resnets.2.conv1", "lora_unet_output_blocks_8_0_in_layers_2"),
        ("text_encoder", TEXT[0], "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"),
        (
            "text_encoder_2",
            "text_model.encoder.layers.31.self_attn.out_proj",
            "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
        ),
        ("text_encoder_2", "text_projection", "lora_te2_text_projection"),
    ],
)
def test_sdxl_names(part, path, name):
    assert module_names(SDXL)[part, path] == name


def test_an_upsampler_follows_the_last_of_what_is_there():
    names = module_names({"unet": list(unet_layers([True, True], [False, True], 1)), "text_encoder_2": []})
    assert names["unet", "up_blocks.0.upsamplers.0.conv"] == "lora_unet_output_blocks_1_1_conv"


def test_a_part_of_an_sdxl_unet_is_refused_rather_than_numbered_wrongly():
    with pytest.raises(KeyError):
        module_names({"unet": ["down_blocks.1.attentions.0.proj_in"], "text_encoder_2": []})


SDXL_FORMS = {
    "kohya": "lora_unet_input_blocks_4_1_proj_in",
    "kohya with diffusers' block names": "lora_unet_down_blocks_1_attentions_0_proj_in",
    "diffusers": "unet.down_blocks.1.attentions.0.proj_in",
    "PEFT": "base_model.model.down_blocks.1.attentions.0.proj_in",
}
SECOND_FORMS = {
    "kohya": "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
    "names taken from transformers 5": "lora_te2_encoder_layers_31_self_attn_out_proj",
    "diffusers": "text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj",
}
FIRST_FORMS = {
    "kohya": "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
    "one encoder": "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    "diffusers": "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "PEFT": "base_model.model.text_model.encoder.layers.0.self_attn.q_proj",
}


@pytest.mark.parametrize(
    ("stem", "target"),
    [(stem, ("unet", "down_blocks.1.attentions.0.proj_in")) for stem in SDXL_FORMS.values()]
    + [(stem, ("text_encoder_2", SDXL["text_encoder_2"][0])) for stem in SECOND_FORMS.values()]
    + [(stem, ("text_encoder", TEXT[0])) for stem in FIRST_FORMS.values()],
)
def test_every_form_is_resolved_for_sdxl(stem, target):
    found = match([f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"], SDXL)
    assert found.modules == {module_names(SDXL)[target]: target}
    assert found.unmatched == ()


def test_the_oldest_diffusers_form_for_sdxl():
    stem = "unet.down_blocks.2.attentions.1.transformer_blocks.0.attn1.processor.to_out_lora"
    found = match([f"{stem}.down.weight", f"{stem}.up.weight"], SDXL)
    assert set(found.modules) == {"lora_unet_input_blocks_8_1_transformer_blocks_0_attn1_to_out_0"}


layouts = st.tuples(st.lists(st.booleans(), min_size=1, max_size=5), st.integers(1, 4), st.booleans()).map(
    lambda drawn: list(unet_layers(drawn[0], drawn[0][::-1], drawn[1], drawn[2]))
)


@given(layouts)
def test_names_of_any_layout_lead_back_to_their_modules(paths):
    modules = {"unet": paths, "text_encoder": TEXT, "text_encoder_2": TEXT}
    written = module_names(modules)
    assert len(set(written.values())) == len(written)
    file = [f"{name}.{half}.weight" for name in written.values() for half in ("lora_down", "lora_up")]
    found = match(file, modules)
    assert found.modules == {name: module for module, name in written.items()}
    assert found.unmatched == ()


@given(layouts)
def test_rows_of_blocks_have_no_gaps(paths):
    """SGM counts every step of the forward pass, so each number up to the last is some layer's."""
    names = module_names({"unet": paths, "text_encoder_2": []}).values()
    for row in ("input", "output"):
        numbers = {int(name.split("_")[4]) for name in names if name.startswith(f"lora_unet_{row}_blocks_")}
        assert numbers == set(range(len(numbers)))
