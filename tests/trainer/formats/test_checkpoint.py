"""What a checkpoint is, from its header: families, configs, prediction, and a sentence for everything else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.torch import save_file

from tests.full_size import TEXTS, UNETS, VAE, full_size, shapes_of, write_hollow
from tests.tiny_checkpoints import prefixed, scattered, tiny_checkpoint, tiny_unet, tiny_vae, unet_to_ldm, vae_to_ldm
from trainer.contract.errors import UserError
from trainer.families.checkpoint import convert
from trainer.formats.architecture import config_of
from trainer.formats.bases import BaseFacts, check_base, describe_base
from trainer.formats.checkpoint import CONV_IN, UNET, Checkpoint, read_checkpoint
from trainer.formats.header import Header, TensorInfo

FAMILIES = ("sd1", "sd2", "sdxl")
SD2_BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"

# Names and sizes as they stand in the files that Stability AI and Runway published.
KNOWN = {
    "sd1": {
        "model.diffusion_model.time_embed.0.weight": (1280, 320),
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.input_blocks.1.0.in_layers.0.weight": (320,),
        "model.diffusion_model.input_blocks.1.0.emb_layers.1.weight": (320, 1280),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (320, 320),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "model.diffusion_model.middle_block.0.out_layers.3.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (10240, 1280),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
        "first_stage_model.encoder.mid.block_1.conv1.weight": (512, 512, 3, 3),
        "first_stage_model.encoder.norm_out.weight": (512,),
        "first_stage_model.decoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.decoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
        "cond_stage_model.transformer.text_model.encoder.layers.11.self_attn.q_proj.weight": (768, 768),
    },
    "sd2": {
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320),
        "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        SD2_BIAS: (320,),
        "cond_stage_model.model.token_embedding.weight": (49408, 1024),
        "cond_stage_model.model.positional_embedding": (77, 1024),
        "cond_stage_model.model.transformer.resblocks.23.mlp.c_fc.weight": (4096, 1024),
        "cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (1024,),
        "cond_stage_model.model.ln_final.weight": (1024,),
        "cond_stage_model.model.text_projection": (1024, 1024),
    },
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.label_emb.0.2.weight": (1280, 1280),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (640, 2048),
        "model.diffusion_model.middle_block.1.transformer_blocks.9.attn1.to_out.0.weight": (1280, 1280),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.out_proj.bias": (1280,),
        "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
        "conditioner.embedders.1.model.positional_embedding": (77, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
    },
}


@pytest.fixture(scope="module")
def full():
    return {family: full_size(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def tiny():
    return {family: tiny_checkpoint(family).tensors for family in FAMILIES}


def save(path, tensors, metadata=None):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_of_these_tests_are_named_as_real_ones(full, family):
    shapes = shapes_of(full[family])
    for name, shape in KNOWN[family].items():
        assert shapes.get(name) == shape, name
    mark = {"sd1": "v1", "sd2": "v2", "sdxl": "xl_base"}[family]
    assert CHECKPOINT_KEY_NAMES[mark] in shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_full_size_files_get_the_published_configs(full, tmp_path, family):
    path = write_hollow(tmp_path / "full.safetensors", shapes_of(full[family]))
    assert path.stat().st_size > 2_000_000_000
    assert describe_base(path) == BaseFacts(path, family, "epsilon", False)
    checkpoint = read_checkpoint(path)
    fixed = {"in_channels": 4, "out_channels": 4, "layers_per_block": 2, "norm_num_groups": 32}
    fixed["mid_block_type"] = "UNetMidBlock2DCrossAttn"
    assert config_of(checkpoint, "unet", "epsilon") == UNETS[family] | fixed
    extra = {"use_quant_conv": True, "use_post_quant_conv": True}
    extra["scaling_factor"] = 0.13025 if family == "sdxl" else 0.18215
    extra["sample_size"] = 1024 if family == "sdxl" else 512
    assert config_of(checkpoint, "vae", "epsilon") == VAE | extra
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    for part, config in TEXTS[family].items():
        assert config_of(checkpoint, part, "epsilon") == config | ends
    if family == "sd2":
        assert config_of(checkpoint, "unet", "v_prediction")["sample_size"] == 96


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_full_size_file_finds_its_place(full, tmp_path, family):
    checkpoint = read_checkpoint(write_hollow(tmp_path / "full.safetensors", shapes_of(full[family])))
    for part in checkpoint.parts():
        weights = {short: full[family][name] for short, name in checkpoint.names(part).items()}
        model = convert(part, config_of(checkpoint, part, "epsilon"), weights, "full")
        assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert not weights  # emptied on the way: the converted ones are enough


def test_sd2_files_that_lack_the_unread_last_layer_keep_all_they_have(full, tmp_path):
    shapes = {name: shape for name, shape in shapes_of(full["sd2"]).items() if ".resblocks.23." not in name}
    checkpoint = read_checkpoint(write_hollow(tmp_path / "converted.safetensors", shapes))
    assert config_of(checkpoint, "text_encoder", "epsilon")["num_hidden_layers"] == 23


def test_a_shortened_sdxl_gets_its_own_depths():
    """As SSD-1B and Vega: other depths on the way up, and no attention in the middle."""
    torch.manual_seed(2)
    unet = scattered(
        UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(32, 64),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2D",
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=[1, 1],
            use_linear_projection=True,
            transformer_layers_per_block=[[1, 1], [2, 2]],
            reverse_transformer_layers_per_block=[[2, 1, 3], [1, 1, 1]],
            addition_embed_type="text_time",
            addition_time_embed_dim=16,
            projection_class_embeddings_input_dim=6 * 16 + 40,
        )
    )
    tensors = tiny_checkpoint("sdxl").tensors
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNET)} | unet_to_ldm(unet)
    infos = {name: TensorInfo("F32", tuple(tensor.shape), (0, 0)) for name, tensor in tensors.items()}
    checkpoint = Checkpoint(Path("short"), "sdxl", Header({}, infos, 0))
    config = config_of(checkpoint, "unet", "epsilon")
    weights = {short: tensors[name] for short, name in checkpoint.names("unet").items()}
    built = convert("unet", config, weights, "shortened")
    assert built.state_dict().keys() == unet.state_dict().keys()
    for name, tensor in unet.state_dict().items():
        assert torch.equal(built.state_dict()[name], tensor), name


# --- prediction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "extra", "metadata", "prediction", "zero"),
    [
        ("sd1", (), None, "epsilon", False),
        ("sdxl", (), None, "epsilon", False),
        ("sdxl", ("v_pred",), None, "v_prediction", False),
        ("sdxl", ("v_pred", "ztsnr"), None, "v_prediction", True),
        ("sdxl", ("ztsnr",), None, "epsilon", False),
        ("sdxl", (), "v", "v_prediction", False),
        ("sdxl", ("ztsnr",), "v", "v_prediction", True),
        ("sdxl", (), "epsilon", "epsilon", False),
        ("sdxl", ("v_pred",), "epsilon", "v_prediction", False),
        ("sd1", (), "v_prediction", "v_prediction", False),
        ("sd1", (), "something", "epsilon", False),
    ],
)
def test_markers_and_metadata_tell_the_prediction(tiny, tmp_path, family, extra, metadata, prediction, zero):
    marks = {name: torch.tensor([]) for name in extra}
    said = {"modelspec.prediction_type": metadata} if metadata else None
    facts = describe_base(save(tmp_path / "x.safetensors", tiny[family] | marks, said))
    assert (facts.prediction, facts.zero_terminal_snr) == (prediction, zero)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("deviation", "prediction"), [(0.06, "epsilon"), (0.12, "v_prediction")])
def test_an_sd2_is_told_by_one_bias(tiny, tmp_path, dtype, deviation, prediction):
    name = "model.diffusion_model.output_blocks.3.1.transformer_blocks.0.norm1.bias"  # the last with attention
    assert name in tiny["sd2"]
    bias = {name: (torch.tensor([1.0, -1.0] * 16) * deviation).to(dtype)}
    path = save(tmp_path / "x.safetensors", tiny["sd2"] | bias)
    assert describe_base(path).prediction == prediction
    path = save(path, tiny["sd2"] | bias, {"modelspec.prediction_type": "epsilon"})
    assert describe_base(path).prediction == "epsilon"


def test_an_sd2_in_full_size_is_told_by_the_fields_own_tensor(full, tmp_path):
    path = write_hollow(tmp_path / "full.safetensors", shapes_of(full["sd2"]))
    assert describe_base(path).prediction == "epsilon"
    header = read_checkpoint(path).header
    with path.open("r+b") as file:
        file.seek(header.body_start + header.tensors[SD2_BIAS].offsets[0])
        file.write(np.tile([0.2, -0.2], 160).astype("<f2").tobytes())
    assert describe_base(path).prediction == "v_prediction"


def test_an_sd2_in_eight_bits_that_says_nothing_is_refused(tiny, tmp_path):
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tiny["sd2"].items()}
    with pytest.raises(UserError, match="does not say whether it predicts v or epsilon, and is stored in F8_E4M3"):
        describe_base(save(tmp_path / "x.safetensors", small))


def test_facts_read_as_a_line(tiny, tmp_path, tiny_sd):
    marks = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    noob = describe_base(save(tmp_path / "noob.safetensors", tiny["sdxl"] | marks))
    assert noob.describe() == "Stable Diffusion XL, v-prediction, zero terminal SNR, one file"
    assert describe_base(tiny_sd).describe() == "Stable Diffusion 1.x, epsilon-prediction, diffusers folder"


# --- refusals -------------------------------------------------------------------------------------------------------


def lone(*names):
    return {name: torch.ones(4) for name in names}


def with_inputs(tensors, channels):
    return tensors | {CONV_IN: torch.ones(32, channels, 3, 3)}


def refiner(tiny):
    renamed = {name.replace("embedders.1.", "embedders.0."): tensor for name, tensor in tiny["sdxl"].items()}
    return {name: tensor for name, tensor in renamed.items() if ".0.transformer.text_model" not in name}


REFUSED = {
    "kohya LoRA": (lambda tiny: lone("lora_unet_mid_block_x.lora_up.weight"), "is a LoRA or another adapter"),
    "diffusers LoRA": (
        lambda tiny: lone("unet.down_blocks.0.attn1.to_q.lora_A.weight"),
        "is a LoRA or another adapter",
    ),
    "OFT": (lambda tiny: lone("unet.mid_block.oft_R.weight"), "is a LoRA or another adapter"),
    "LoKr": (lambda tiny: lone("lycoris_unet_x.lokr_w1", "lycoris_unet_x.alpha"), "is a LoRA or another adapter"),
    "embedding": (lambda tiny: lone("emb_params"), "is a textual-inversion embedding"),
    "SDXL embedding": (lambda tiny: lone("clip_l", "clip_g"), "is a textual-inversion embedding"),
    "diffusers embedding": (lambda tiny: lone("<my-cat>"), "is a textual-inversion embedding"),
    "ControlNet": (lambda tiny: lone("control_model.input_hint_block.0.weight"), "is a ControlNet"),
    "NF4": (
        lambda tiny: tiny["sdxl"] | lone(f"{UNET}middle_block.1.proj_in.weight.absmax"),
        "is a checkpoint with packed (quantised) weights",
    ),
    "SD 3": (
        lambda tiny: lone(f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias"),
        "is a Stable Diffusion 3 model",
    ),
    "Flux": (lambda tiny: lone("double_blocks.0.img_attn.norm.key_norm.scale"), "is a Flux model"),
    "PixArt": (lambda tiny: lone("blocks.0.cross_attn.kv_linear.weight"), "is a PixArt or Sana model"),
    "Playground": (lambda tiny: tiny["sdxl"] | lone("edm_mean", "edm_std"), "is an SDXL model on the EDM noise"),
    "CosXL": (lambda tiny: tiny["sdxl"] | lone("edm_vpred.sigma_max"), "is an SDXL model on the EDM noise"),
    "refiner": (refiner, "is the SDXL refiner"),
    "unCLIP": (lambda tiny: tiny["sd2"] | lone(f"{UNET}label_emb.0.0.weight"), "is a Stable Diffusion 2 unCLIP"),
    "inpainting": (lambda tiny: with_inputs(tiny["sd1"], 9), "is an inpainting model: its UNet takes 9 channels"),
    "depth": (lambda tiny: with_inputs(tiny["sd2"], 5), "is a depth model: its UNet takes 5 channels"),
    "pix2pix": (lambda tiny: with_inputs(tiny["sd1"], 8), "is an instruct-pix2pix (or video) model: its UNet"),
    "16 channels": (lambda tiny: with_inputs(tiny["sd1"], 16), "is not a text-to-image model of Stable Diffusion 1.x"),
    "UNet": (lambda tiny: unet_to_ldm(tiny_unet("sd1")), "is a UNet without its text encoders"),
    "diffusers UNet": (lambda tiny: tiny_unet("sd1").state_dict(), "is a UNet without its text encoders"),
    "VAE": (lambda tiny: vae_to_ldm(tiny_vae()), "is a VAE alone"),
    "VAE with prefix": (lambda tiny: prefixed("first_stage_model.", vae_to_ldm(tiny_vae())), "is a VAE alone"),
    "text encoder": (lambda tiny: lone("text_model.final_layer_norm.bias"), "is a text encoder alone"),
    "something": (lambda tiny: lone("a.b", "c.d"), "is a model of a kind that is not known here"),
    "nothing": (lambda tiny: {}, "is a file without any tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_everything_else_is_refused_with_its_sentence(tiny, tmp_path, case):
    make, sentence = REFUSED[case]
    path = save(tmp_path / "given.safetensors", make(tiny))
    with pytest.raises(UserError) as raised:
        check_base(str(path))
    assert raised.value.problem.startswith(f"'given.safetensors' {sentence}")
    assert raised.value.where == "model.base"
    assert "What can be trained: Stable Diffusion 1.x" in raised.value.fix or "it was made from" in raised.value.fix


def test_broken_files_are_refused(tiny, tmp_path):
    path = save(tmp_path / "x.safetensors", tiny["sd1"])
    whole = path.read_bytes()
    for content, sentence in (
        (whole[:-10], "it may be cut off"),
        (whole[:1000], "it may be cut off"),
        (b"", "it has only 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer to a file in Git LFS"),
        (b"PK\x03\x04 renamed", "This is a pickle file"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            check_base(str(path))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickles_are_refused(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"anything")
    with pytest.raises(UserError, match="This is a pickle file"):
        check_base(str(tmp_path / f"x{suffix}"))


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("model.diffusion_model.out.2.weight", "the unet of 'x.safetensors' lacks the tensor out.2.weight"),
        ("first_stage_model.decoder.conv_in.weight", "the vae of 'x.safetensors' lacks the tensor decoder.conv_in"),
        (
            "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
            "the text_encoder of 'x.safetensors' lacks the tensor embeddings.position_embedding.weight",
        ),
    ],
)
def test_a_tensor_that_a_config_needs_is_named(tiny, tmp_path, lost, sentence):
    tensors = {name: tensor for name, tensor in tiny["sd1"].items() if name != lost}
    with pytest.raises(UserError, match=sentence):
        check_base(str(save(tmp_path / "x.safetensors", tensors)))


def test_a_unet_that_no_config_describes_is_refused(tiny, tmp_path):
    odd = f"{UNET}input_blocks.4.0.in_layers.2.weight"  # one layer more in the last level than in the first
    tensors = tiny["sd1"] | {odd: torch.ones(64, 64, 3, 3)}
    with pytest.raises(UserError, match=r"is built in an unknown way \(layers per block: \[1, 2\]\)"):
        check_base(str(save(tmp_path / "x.safetensors", tensors)))


def test_a_file_without_vae_passes(tiny, tmp_path):
    tensors = {name: tensor for name, tensor in tiny["sd1"].items() if not name.startswith("first_stage_model.")}
    check_base(str(save(tmp_path / "x.safetensors", tensors)))
