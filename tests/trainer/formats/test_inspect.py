"""What `atelier inspect` says about files of every origin."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from trainer.contract.errors import UserError
from trainer.formats.header import with_metadata
from trainer.formats.inspect import PRACTICE, SD1, SD2, SDXL, UNKNOWN, inspect
from trainer.formats.metadata import sign

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def lora(module, rank=4, width=768, alpha=4.0, down=".lora_down.weight", up=".lora_up.weight"):
    tensors = {module + down: np.ones((rank, width), np.float16), module + up: np.zeros((320, rank), np.float16)}
    return tensors if alpha is None else tensors | {f"{module}.alpha": np.array(alpha, np.float16)}


def written(tmp_path, tensors, metadata=None):
    path = tmp_path / "file.safetensors"
    path.write_bytes(save(tensors, metadata))
    return path


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int8, np.uint8])
def test_an_alpha_may_be_a_whole_number(kind, tmp_path):
    found = inspect(written(tmp_path, lora(UNET, alpha=None) | {f"{UNET}.alpha": np.array(2, kind)}))
    assert found.alphas == (2.0,) and not any("no alpha" in note for note in found.notes)


def test_a_file_of_ours(tmp_path):
    metadata = {
        "ss_base_model_version": "lora-atelier-demo",
        "ss_sd_model_name": "demo",
        "modelspec.title": "My fox",
        "modelspec.trigger_phrase": "ohwx",
    }
    path = tmp_path / "fox.safetensors"
    path.write_bytes(sign(save(lora(UNET, rank=8, alpha=4.0, width=256) | lora(TEXT, alpha=2.0), metadata)))
    found = inspect(path)
    assert (found.file, found.size, found.format) == ("fox.safetensors", path.stat().st_size, "kohya")
    assert (found.family, found.base, found.title, found.triggers) == (PRACTICE, "demo", "My fox", ("ohwx",))
    assert (found.unet_modules, found.text_encoder_modules, found.other_modules) == (1, 1, 0)
    assert (found.ranks, found.alphas, found.dtypes) == ((4, 8), (2.0, 4.0), ("F16",))
    assert (len(found.hash), found.hash_is_true) == (64, True)
    assert "Trained on the practice base: works only here." in found.notes
    assert any("SD.Next" in note for note in found.notes)
    assert json.loads(json.dumps(found.as_dict()))["triggers"] == ["ohwx"]


@pytest.mark.parametrize(
    ("module", "width", "family"),
    [
        (UNET, 768, SD1),
        (UNET, 1024, SD2),
        (UNET, 2048, SDXL),
        (UNET, 333, UNKNOWN),
        (TEXT, 768, SD1),
        (TEXT, 1024, SD2),
        ("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280, SDXL),
        ("lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q", 1280, SDXL),
        ("lora_unet_mid_block_attentions_0_proj_in", 1280, UNKNOWN),
        ("lora_unet_middle_block_1_proj_in", 1280, SDXL),
        ("text_encoder_2.text_model.encoder.layers.0.mlp.fc1", 1280, SDXL),
        ("base_model.model.text_model.encoder.layers.0.self_attn.q_proj", 1280, SDXL),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v", 768, SD1),
    ],
)
def test_the_family_from_the_shapes(tmp_path, module, width, family):
    assert inspect(written(tmp_path, lora(module, width=width))).family == family


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [("lora_te1_text_model_", "lora_te2_text_model_", "kohya"), ("text_encoder.", "text_encoder_2.", "diffusers")],
)
def test_the_text_encoders_of_sdxl_are_counted_apart(tmp_path, first, second, kind):
    layers = [f"{second}encoder_layers_{index}_mlp_fc1" for index in range(3)] + [f"{first}encoder_layers_0_mlp_fc1"]
    found = inspect(written(tmp_path, {name: half for layer in layers for name, half in lora(layer).items()}))
    assert (found.text_encoder_modules, found.text_encoder_2_modules) == (1, 3)
    assert (found.unet_modules, found.other_modules, found.format, found.family) == (0, 0, kind, SDXL)
    assert any("SD.Next" in note for note in found.notes)


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, SDXL),
        ({"ss_base_model_version": "sd_v2_v"}, SD2),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, SDXL),
        ({"ss_v2": "True"}, SD2),
        ({"format": "pt"}, SD1),
    ],
)
def test_what_the_file_says_comes_first_and_a_clash_is_noted(tmp_path, metadata, family):
    found = inspect(written(tmp_path, lora(UNET, width=768), metadata))
    assert found.family == family
    assert any("but its shapes" in note for note in found.notes) == (family != SD1)


@pytest.mark.parametrize(
    ("prefix", "down", "up", "kind"),
    [
        ("unet.", ".lora_A.weight", ".lora_B.weight", "diffusers"),
        ("base_model.model.", ".lora_A.weight", ".lora_B.weight", "PEFT"),
        ("", ".lora_A.weight", ".lora_B.weight", "PEFT"),
    ],
)
def test_foreign_names_are_noted(tmp_path, prefix, down, up, kind):
    module = prefix + "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    found = inspect(written(tmp_path, lora(module, alpha=None, down=down, up=up)))
    assert (found.format, found.unet_modules, found.family) == (kind, 1, SD1)
    assert any("A1111 ignores" in note for note in found.notes)
    assert any("1 modules store no alpha" in note for note in found.notes)


def test_what_is_no_adapter_is_noted(tmp_path):
    tensors = lora(UNET) | {f"{UNET}.ia3_w": np.ones(3, np.float32), "x.lora_up.weight": np.ones(2, np.float32)}
    found = inspect(written(tmp_path, tensors))
    assert found.unmatched[f"{UNET}.ia3_w"] == "not of any adapter known here"
    assert any(f"not of any adapter known here: 1 ({UNET}.ia3_w)" in line for line in found.fit)
    whole = inspect(written(tmp_path, {"model.diffusion_model.x": np.ones(3, np.float32)}))
    assert (whole.format, whole.method) == (UNKNOWN, "")
    assert any("no LoRA" in note and "OFT" in note for note in whole.notes)


def ones(module, **shapes):
    return {f"{module}.{name}": np.ones(shape, np.float16) for name, shape in shapes.items()}


HADA = {"hada_w1_a": (320, 4), "hada_w1_b": (4, 768), "hada_w2_a": (320, 4), "hada_w2_b": (4, 768), "alpha": ()}


@pytest.mark.parametrize(
    ("shapes", "method", "family", "ranks", "factors"),
    [
        (HADA, "LoHa", SD1, (4,), ()),
        ({"lokr_w1": (8, 8), "lokr_w2": (40, 96), "alpha": ()}, "LoKr", SD1, (), (8,)),
        ({"lokr_w1": (8, 16), "lokr_w2_a": (40, 4), "lokr_w2_b": (4, 64), "alpha": ()}, "LoKr", SD2, (4,), (8, 16)),
        ({"lokr_w1_a": (16, 2), "lokr_w1_b": (2, 16), "lokr_w2": (20, 128), "alpha": ()}, "LoKr", SDXL, (2,), (2, 16)),
        ({"oft_blocks": (80, 4, 4), "alpha": ()}, "OFT", UNKNOWN, (4,), ()),
    ],
)
def test_other_methods_are_named_with_their_sizes(tmp_path, shapes, method, family, ranks, factors):
    found = inspect(written(tmp_path, ones(UNET, **shapes)))
    assert (found.method, found.family, found.ranks, found.factors) == (method, family, ranks, factors)
    assert found.alphas == (() if method == "OFT" else (1.0,)) and (found.unet_modules, found.format) == (1, "kohya")
    assert found.notes == ()
    part = dict(list(shapes.items())[1:-1])
    if part:
        half = inspect(written(tmp_path, ones(UNET, **part)))
        assert half.matched == 0 and half.unmatched == {UNET: "parts are missing"}


def test_lora_dora_and_a_file_of_several_methods(tmp_path):
    plain = lora(UNET)
    assert inspect(written(tmp_path, plain)).method == "LoRA"
    whole = plain | {f"{UNET}.dora_scale": np.ones((1, 768), np.float16)}
    found = inspect(written(tmp_path, whole))
    assert (found.method, found.ranks, found.alphas, found.family, found.notes) == ("DoRA", (4,), (4.0,), SD1, ())
    found = inspect(written(tmp_path, whole | ones("lycoris_x", **HADA)))
    assert (found.method, found.format, found.other_modules) == ("DoRA + LoHa", "kohya", 1)


@pytest.mark.parametrize("shape", [(), (3,), (0, 0)])
def test_tensors_of_strange_shapes_break_nothing(tmp_path, shape):
    names = dict.fromkeys((*HADA, "lokr_w1", "lokr_w2_b", "oft_blocks", "dora_scale", "lora_down.weight"), shape)
    for name in names:
        assert inspect(written(tmp_path, ones(UNET, **{name: shape}))).family == UNKNOWN
    inspect(written(tmp_path, ones(UNET, **names)))


def test_a_false_hash_is_noted(tmp_path):
    path = written(tmp_path, lora(UNET), {"sshs_model_hash": "e3b0c442"})
    found = inspect(path)
    assert found.hash_is_true is False
    assert any("hash stored in it is wrong" in note for note in found.notes)
    path.write_bytes(with_metadata(path.read_bytes(), {}))
    assert inspect(path).hash_is_true is None


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_alpha_is_read_in_any_precision(tmp_path, kind):
    tensors = lora(UNET, alpha=None) | {f"{UNET}.alpha": np.array(12.5, kind)}
    assert inspect(written(tmp_path, tensors)).alphas == (12.5,)


def test_alpha_in_bfloat16(tmp_path):
    header = {f"{UNET}.alpha": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.array(12.5, np.float32).tobytes()[2:])
    assert inspect(path).alphas == (12.5,)


@pytest.mark.parametrize(
    ("metadata", "triggers"),
    [
        ({"ss_tag_frequency": '{"10_ohwx man": {"tree": 1}}'}, ("ohwx man",)),
        ({"ss_datasets": '[{"subsets": [{"class_tokens": "sks"}, {"class_tokens": "sks"}]}]'}, ("sks",)),
        ({"ss_datasets": '[{"subsets": [{"class_tokens": null}]}]', "ss_tag_frequency": '{"1_run": {}}'}, ()),
        ({"ss_datasets": "[3, {}, {broken", "ss_tag_frequency": "[]"}, ()),
        ({}, ()),
    ],
)
def test_triggers_are_found_where_other_trainers_put_them(tmp_path, metadata, triggers):
    assert inspect(written(tmp_path, lora(UNET), metadata)).triggers == triggers


def test_pickles_are_refused(tmp_path):
    with pytest.raises(UserError, match="pickle"):
        inspect(tmp_path / "model.ckpt")
