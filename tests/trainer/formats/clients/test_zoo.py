"""What each client does with files of every origin, and why; names and sizes are written by hand."""

import json
from dataclasses import replace

import pytest

from tests.trainer.formats.clients.files import KOHYA, PEFT, SAID, lora, sheet, verdicts, whole
from tests.trainer.formats.test_metadata import FACTS
from trainer.formats.clients.models import SD1, SD2, SDXL
from trainer.formats.clients.report import CLIENTS, judge
from trainer.formats.clients.verdict import LOADS, LOSSES, NOTHING, REFUSED
from trainer.formats.metadata import adapter_metadata

NAMES = ("A1111", "Forge", "ComfyUI", "SD.Next", "InvokeAI", "SwarmUI", "diffusers")
COUNTS = {SD1: (192, 72), SD2: (192, 138), SDXL: (722, 264)}
K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
FF = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"
XL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
XL_BLOCKS = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
TE = "lora_te_text_model_encoder_layers_0_self_attn"
TE1, TE2 = (f"lora_te{n}_text_model_encoder_layers_0_self_attn" for n in (1, 2))
DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0"
OLD, OLDEST = (".lora.down.weight", ".lora.up.weight"), ("_lora.down.weight", "_lora.up.weight")
SD15 = lora(K, 768, 320) | lora(Q, 320)


def attention(prefix, width, layers="qkv", out=True):
    names = [f"{prefix}_{letter}_proj" for letter in layers] + ([f"{prefix}_out_proj"] if out else [])
    return {name: shape for module in names for name, shape in lora(module, width).items()}


def outcomes(found):
    return tuple(found[name].outcome for name in NAMES)


def reasons(verdict):
    return " ".join(verdict.reasons)


def test_every_client_is_there_with_its_source():
    assert tuple(client.name for client in CLIENTS) == NAMES
    assert all("/" in client.source and any(sign.isdigit() for sign in client.source) for client in CLIENTS)


@pytest.mark.parametrize("family", COUNTS)
def test_our_own_names_load_everywhere(family):
    unet, text = COUNTS[family]
    found = verdicts(whole(family, ("unet",)), SAID[family])
    assert outcomes(found) == (LOADS,) * 7
    assert {verdict.applied for verdict in found.values()} == {unet}
    both = verdicts(whole(family), SAID[family])
    assert outcomes(both) == (LOADS, LOADS, LOADS, LOSSES, LOADS, LOADS, LOADS)
    assert {verdict.applied for name, verdict in both.items() if name != "SD.Next"} == {unet + text}
    assert (both["SD.Next"].applied, both["SD.Next"].left_out) == (unet, text)
    assert "text encoder" in both["SD.Next"].sentence and "switched on" in both["SD.Next"].sentence


@pytest.mark.parametrize("version", ["sd_v2", "sd_v2_v"])
def test_our_sd2_files_are_in_swarms_class_of_sd2(version):
    found = verdicts(whole(SD2, ("unet",)), adapter_metadata(replace(FACTS, base_version=version)))
    assert (found["SwarmUI"].outcome, found["SwarmUI"].listed) == (LOADS, "Stable Diffusion 2.1")


def test_sd2_under_the_other_id_is_taken_for_sd1_by_swarm():
    found = verdicts(whole(SD2, ("unet",)), SAID[SD2] | {"modelspec.architecture": "stable-diffusion-v2-512/lora"})
    assert outcomes(found) == (LOADS,) * 5 + (LOSSES, LOADS)
    assert "sorted under Stable Diffusion 1.5" in found["SwarmUI"].sentence


ZOO = {  # case -> shapes, metadata, what each client does, words of reasons by client
    "PEFT's names": (
        lora(f"unet.{DOTTED}.attn2.to_k", 768, 320, PEFT, alpha=False)
        | lora(f"unet.{DOTTED}.ff.net.2", 1280, 320, PEFT, alpha=False),
        {},
        (NOTHING, LOSSES, LOSSES, NOTHING, REFUSED, LOSSES, LOADS),
        {"A1111": "without a word", "ComfyUI": "lora key not loaded", "InvokeAI": "cannot be told"},
    ),
    "PEFT's names of the text encoder": (
        lora("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 768, None, PEFT, alpha=False),
        {},
        (NOTHING, LOADS, LOADS, NOTHING, REFUSED, LOADS, LOADS),
        {"SD.Next": "no layer of that name"},
    ),
    "PEFT's own prefix": (
        lora(f"base_model.model.{DOTTED}.attn2.to_k", 768, 320, PEFT, alpha=False),
        {},
        (NOTHING, NOTHING, NOTHING, NOTHING, REFUSED, NOTHING, NOTHING),
        {"diffusers": "without a prefix"},
    ),
    "diffusers before PEFT": (
        lora(f"unet.{DOTTED}.attn2.processor.to_k", 768, 320, OLDEST, alpha=False),
        {},
        (NOTHING, LOADS, LOADS, NOTHING, REFUSED, LOADS, LOADS),
        {"InvokeAI": "not installed"},
    ),
    "PEFT's endings on kohya's names": (
        lora(K, 768, 320, PEFT),
        {},
        (LOADS, LOADS, LOADS, NOTHING, REFUSED, LOADS, REFUSED),
        {"SD.Next": "no method", "diffusers": "cannot rewrite"},
    ),
    "Stability's names on SD 1.5": (
        lora("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", 768, 320),
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, NOTHING, LOADS, REFUSED),
        {"InvokeAI": "no layer", "diffusers": "target modules"},
    ),
    "diffusers' blocks for SDXL": (
        lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 2048, 640)
        | lora("lora_unet_up_blocks_0_upsamplers_0_conv", 1280),
        SAID[SDXL],
        (LOSSES, LOSSES, LOSSES, LOSSES, LOSSES, LOSSES, REFUSED),
        {"A1111": "no layer of that name", "ComfyUI": "another size"},
    ),
    "mixed blocks": (
        lora(XL, 2048, 640) | lora(XL_BLOCKS, 640),
        SAID[SDXL],
        (LOADS, LOADS, LOADS, LOADS, REFUSED, LOADS, LOSSES),
        {"InvokeAI": "some cannot", "diffusers": "dropped in silence"},
    ),
    "lora_te1_ on SD 1.5": (
        SD15 | lora(f"{TE1}_v_proj", 768),
        SAID[SD1] | {"modelspec.architecture": ""},
        (LOADS, LOADS, LOADS, LOSSES, LOSSES, LOSSES, REFUSED),
        {"SwarmUI": "sorted under SDXL", "InvokeAI": "no layer", "diffusers": "without out_proj"},
    ),
    "lora_te_ on SDXL": (
        lora(XL, 2048, 640) | attention(TE, 768),
        SAID[SDXL],
        (LOSSES, LOADS, LOADS, LOSSES, REFUSED, LOADS, LOADS),
        {"InvokeAI": "Stable Diffusion 1.5"},
    ),
    "no alpha": (
        {name: shape for name, shape in SD15.items() if not name.endswith("alpha")},
        SAID[SD1],
        (LOADS,) * 7,
        {},
    ),
    "an alpha of two numbers": (SD15 | {f"{K}.alpha": (2,)}, SAID[SD1], (REFUSED,) * 7, {"A1111": "not one number"}),
    "DoRA by inputs": (
        SD15 | {f"{K}.dora_scale": (1, 768)},
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, LOADS, LOADS, LOSSES),
        {"diffusers": "plain LoRA is left"},
    ),
    "DoRA by outputs": (
        SD15 | {f"{K}.dora_scale": (320, 1)},
        SAID[SD1],
        (LOSSES, LOSSES, LOSSES, LOADS, LOSSES, LOSSES, LOSSES),
        {"A1111": "scrambles", "InvokeAI": "scrambles", "ComfyUI": "15458"},
    ),
    "LoHa": (
        {f"{K}.hada_w{n}_{half}": size for n in (1, 2) for half, size in (("a", (320, 4)), ("b", (4, 768)))}
        | {f"{K}.alpha": ()},
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, LOADS, LOADS, REFUSED),
        {"diffusers": "cannot rewrite"},
    ),
    "LoKr": (
        {f"{K}.lokr_w1": (16, 16), f"{K}.lokr_w2_a": (20, 4), f"{K}.lokr_w2_b": (4, 48), f"{K}.alpha": ()} | SD15,
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, LOADS, LOADS, REFUSED),
        {"diffusers": "lokr"},
    ),
    "OFT": (
        SD15 | {f"{FF}.oft_blocks": (4, 80, 80), f"{FF}.alpha": ()},
        SAID[SD1],
        (LOADS, LOSSES, LOADS, LOADS, REFUSED, LOADS, REFUSED),
        {"Forge": "named in the log", "InvokeAI": "no method"},
    ),
    "norms": (
        SD15 | {f"{K[: -len('attn2_to_k')]}norm1.{half}_norm": (320,) for half in "wb"},
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, LOADS, LOADS, REFUSED),
        {"diffusers": "w_norm"},
    ),
    "an embedding inside": (
        SD15 | {"bundle_emb.ohwx.string_to_param.*": (1, 768), "bundle_emb.ohwx.name": (1,)},
        SAID[SD1],
        (LOADS, LOSSES, LOSSES, LOADS, LOADS, LOSSES, REFUSED),
        {"diffusers": "Invalid LoRA checkpoint"},
    ),
    "thirteen strange tensors": (
        SD15 | {f"lora_unet_x{n}.lora_up.weight": (4, 4) for n in range(13)},
        SAID[SD1],
        (LOSSES, REFUSED, LOSSES, LOSSES, REFUSED, LOSSES, REFUSED),
        {"Forge": "13 tensors match no layer"},
    ),
    "twelve strange tensors": (
        SD15 | {f"lora_unet_x{n}.diff": (4, 4) for n in range(12)},
        SAID[SD1],
        (LOSSES, LOSSES, LOSSES, LOSSES, LOSSES, LOSSES, REFUSED),
        {},
    ),
    "half a module": (
        {name: shape for name, shape in SD15.items() if "lora_down" not in name},
        SAID[SD1],
        (REFUSED, REFUSED, REFUSED, NOTHING, REFUSED, REFUSED, REFUSED),
        {"A1111": "no method", "ComfyUI": "lacks a half"},
    ),
    "OpenCLIP without out_proj": (
        lora(K, 1024, 320) | attention(TE, 1024, out=False),
        SAID[SD2],
        (LOSSES, LOADS, LOADS, LOSSES, LOADS, LOADS, REFUSED),
        {"A1111": "all four together"},
    ),
    "SDXL's second encoder with q alone": (
        lora(XL, 2048, 640) | attention(TE1, 768) | lora(f"{TE2}_q_proj", 1280),
        SAID[SDXL],
        (LOSSES, LOADS, LOADS, LOSSES, LOADS, LOADS, REFUSED),
        {"A1111": "all four together"},
    ),
    "only self-attention": (
        lora(Q, 320),
        SAID[SD1],
        (LOADS, LOADS, LOADS, LOADS, REFUSED, LOADS, LOADS),
        {"InvokeAI": "cannot be told"},
    ),
    "SDXL with its time embedding": (
        lora(XL, 2048, 640) | lora("lora_unet_time_embed_0", 320, 1280) | lora("lora_unet_label_emb_0_2", 1280),
        SAID[SDXL],
        (LOADS,) * 7,  # InvokeAI 8e71a8a, sdxl_lora_conversion_utils.py, lines 134 to 143: both are rewritten
        {},
    ),
    "SDXL said to be SD 1": (
        lora(XL, 2048, 640),
        SAID[SD1],
        (LOSSES, LOADS, LOADS, LOADS, LOADS, LOSSES, LOADS),
        {"A1111": "hidden while SDXL is loaded", "SwarmUI": "incompatible with SDXL"},
    ),
    "SDXL with format alone": (
        lora(XL, 2048, 640),
        {"format": "pt"},
        (LOSSES, LOADS, LOADS, LOADS, LOADS, LOADS, LOADS),
        {"A1111": "reads as SD1"},
    ),
    "SDXL without metadata": (lora(XL, 2048, 640), {}, (LOADS,) * 7, {}),
    "a resolution that is none": (
        SD15,
        SAID[SD1] | {"modelspec.resolution": "big"},
        (LOADS,) * 5 + (LOSSES, LOADS),
        {"SwarmUI": "not WxH"},
    ),
    "a whole checkpoint": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)},
        {},
        (NOTHING, NOTHING, NOTHING, NOTHING, REFUSED, NOTHING, REFUSED),
        {},
    ),
}


@pytest.mark.parametrize("case", ZOO)
def test_what_each_client_does(case):
    shapes, metadata, expected, words = ZOO[case]
    found = verdicts(shapes, metadata)
    assert dict(zip(NAMES, outcomes(found), strict=True)) == dict(zip(NAMES, expected, strict=True))
    for client, text in words.items():
        assert text in reasons(found[client]), found[client]
    assert all(verdict.sentence for verdict in found.values())
    assert all(verdict.reasons for verdict in found.values() if verdict.outcome != LOADS)


def test_the_practice_base_works_only_here():
    found = judge(sheet(lora(K, 128, 96), {"ss_base_model_version": "lora-atelier-demo"}))
    assert found.practice and found.warnings() == ["practice base: works only here"]
    assert {verdict.sentence for verdict in found.verdicts} == {"practice base: works only here"}
    assert {verdict.outcome for verdict in found.verdicts} <= {NOTHING, REFUSED}


def test_a_wrong_hash_is_told_where_it_is_trusted():
    found = verdicts(SD15, SAID[SD1], hash_is_true=False)
    told = {name for name in NAMES if any("hash" in remark for remark in found[name].remarks)}
    assert told == {"A1111", "Forge"}
    assert any("sshs_model_hash" in note for note in judge(sheet(SD15, SAID[SD1], False)).notes)


def test_what_is_shown():
    metadata = SAID[SD1] | {
        "ss_output_name": "other name",
        "ss_tag_frequency": json.dumps({"10_ohwx man": {"ohwx man": 20, "smile": 5}}),
        "ssmd_cover_images": '["iVBO"]',
        "modelspec.trigger_phrase": "ohwx man",
        "modelspec.thumbnail": "data:image/png;base64,iVBO",
    }
    found = verdicts(SD15, metadata)
    assert found["A1111"].triggers == found["Forge"].triggers == ("ohwx man", "smile")
    assert found["SD.Next"].triggers == found["SwarmUI"].triggers == ("ohwx man",)
    assert found["InvokeAI"].triggers == found["ComfyUI"].triggers == ()
    covers = {name: found[name].cover for name in NAMES if found[name].cover}
    assert covers == dict.fromkeys(("A1111", "Forge"), "ssmd_cover_images") | {"SwarmUI": "modelspec.thumbnail"}
    remarks = " ".join(found["A1111"].remarks)
    assert "<lora:other name:1>" in remarks and "Civitai" in remarks
    assert [found[name].listed for name in NAMES[:4]] == ["SD1", "SD1", "every base", "sd1"]


def test_left_out_modules_are_counted_and_the_first_named():
    found = verdicts(SD15 | {f"lora_unet_x{n}.diff": (4, 4) for n in range(11)}, SAID[SD1])["ComfyUI"]
    assert (found.applied, found.left_out, len(found.left_out_names)) == (2, 11, 8)
    assert found.left_out_names[0] == "lora_unet_x0"


@pytest.mark.parametrize("shape", [(), (0,), (4,), (0, 0), (3, 5, 7, 9, 11)])
@pytest.mark.parametrize(
    "role", ["lora_up.weight", "hada_w1_a", "lokr_w1", "dora_scale", "alpha", "diff", "oft_blocks", "lora_mid.weight"]
)
def test_no_shape_breaks_it(shape, role):
    for name in (K, XL, f"{TE}_q_proj", f"unet.{DOTTED}.attn2.to_k", "", "x"):
        assert len(verdicts({f"{name}.{role}": shape}).keys()) == 7
        assert len(verdicts(SD15 | {f"{name}.{role}": shape}).keys()) == 7
        assert len(verdicts({f"{name}{end}": shape for end in (*KOHYA, ".lokr_w1", ".lokr_w2")}).keys()) == 7


@pytest.mark.parametrize("value", ["", "null", "{", "[1]", '{"a": 1}', '{"a": {"b": "c"}}', "x" * 9, '"text"'])
def test_no_metadata_breaks_it(value):
    keys = ("ss_tag_frequency", "ssmd_cover_images", "modelspec.resolution", "modelspec.trigger_phrase", "ss_v2",
            "ss_output_name", "modelspec.architecture", "ss_base_model_version", "modelspec.thumbnail")  # fmt: skip
    assert len(verdicts(SD15, dict.fromkeys(keys, value))) == 7
