"""Parts of a single file are the models it was written from, bit for bit, with nothing fetched and nothing left out."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from tests.tiny_checkpoints import TOKENS, canonical, tiny_checkpoint
from tests.trainer.families.full_tokenizer import write_tokenizer
from trainer.contract.errors import UserError
from trainer.families import parts as module
from trainer.families.checkpoint import CheckpointSource
from trainer.families.locate import find_source
from trainer.formats.bases import BaseFacts, describe_base
from trainer.formats.vocabulary import clip_tokenizer

FAMILIES = ("sd1", "sd2", "sdxl")
PARTS = [
    (family, part)
    for family in FAMILIES
    for part in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else []))
]


@pytest.fixture(scope="module")
def tiny():
    return {family: tiny_checkpoint(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: tiny[family].write(folder / family / "model.safetensors") for family in FAMILIES}


def without(file, target, *starts):
    """The same checkpoint without the tensors whose names begin so."""
    save_file({name: at for name, at in load_file(file).items() if not name.startswith(starts)}, target)
    return target


def inputs(part, width):
    torch.manual_seed(3)
    if part == "vae":
        return {"sample": torch.randn(1, 3, 32, 32)}
    if part == "unet":
        pooled = {"text_embeds": torch.randn(2, 40), "time_ids": torch.ones(2, 6)}
        text = torch.randn(2, 5, width)
        return {"sample": torch.randn(2, 4, 8, 8), "timestep": 7, "encoder_hidden_states": text} | (
            {"added_cond_kwargs": pooled} if width == 64 else {}
        )
    return {"input_ids": torch.tensor([[TOKENS - 2, 5, 6, TOKENS - 1, TOKENS - 1]])}


@pytest.mark.parametrize(("family", "part"), PARTS)
def test_a_part_is_the_model_it_was_written_from(tiny, files, family, part):
    original = tiny[family].models[part]
    loaded = find_source(str(files[family])).model(part, torch.float32)
    text, held = part.startswith("text_encoder"), loaded.state_dict()
    wanted = canonical(original) if text else original.state_dict()
    assert list(held) == list(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(held[name], tensor), name
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())

    given = inputs(part, original.config.cross_attention_dim if part == "unet" else 0)
    with torch.no_grad():
        if text:
            said, (hidden, pooled) = original(**given, output_hidden_states=True), loaded(*given.values())
            torch.testing.assert_close(said.hidden_states[-1], hidden)
            assert pooled.shape == (1, 40 if part == "text_encoder_2" else 0)
            assert part == "text_encoder" or torch.allclose(said.text_embeds, pooled, rtol=1e-5, atol=1e-6)
        else:
            assert type(loaded) is type(original)
            torch.testing.assert_close(original(**given)[0], loaded(**given)[0])


def test_weights_take_the_asked_type(files):
    source = find_source(str(files["sd1"]))
    assert {at.dtype for at in source.model("vae", torch.bfloat16).state_dict().values()} == {torch.bfloat16}


def test_only_the_asked_part_is_read(files, monkeypatch):
    asked = []
    opened = module.safe_open

    class Watched:
        def __init__(self, *arguments):
            self.file = opened(*arguments)

        def __enter__(self):
            self.inner = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def get_tensor(self, name):
            asked.append(name)
            return self.inner.get_tensor(name)

    monkeypatch.setattr(module, "safe_open", Watched)
    find_source(str(files["sdxl"])).model("text_encoder", torch.float32)
    assert asked
    assert all(name.startswith("conditioner.embedders.0.") for name in asked)


def test_old_merges_without_text_model_in_their_names_load(tiny, files, tmp_path):
    old = {name.replace("transformer.text_model.", "transformer."): at for name, at in load_file(files["sd1"]).items()}
    save_file(old, tmp_path / "old.safetensors")
    loaded = find_source(str(tmp_path / "old.safetensors")).model("text_encoder", torch.float32)
    for name, tensor in canonical(tiny["sd1"].models["text_encoder"]).items():
        assert torch.equal(canonical(loaded)[name], tensor), name


def test_an_sd2_in_sgm_layout_loads(tiny, files, tmp_path):
    turbo = {
        name.replace("cond_stage_model.", "conditioner.embedders.0."): at
        for name, at in load_file(files["sd2"]).items()
    }
    save_file(turbo, tmp_path / "sd_turbo.safetensors")
    source = find_source(str(tmp_path / "sd_turbo.safetensors"))
    assert source.facts.family == "sd2"
    loaded = source.model("text_encoder", torch.float32)
    for name, tensor in canonical(tiny["sd2"].models["text_encoder"]).items():
        assert torch.equal(canonical(loaded)[name], tensor), name


@pytest.mark.parametrize(
    ("part", "lost", "sentence"),
    [
        ("unet", "model.diffusion_model.middle_block.1.norm.weight", "1 weights are missing, first mid_block.atte"),
        ("vae", "first_stage_model.decoder.norm_out.bias", "1 weights are missing, first decoder.conv_norm_out.bias"),
        (
            "text_encoder",
            "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
            "1 weights are missing, first final_layer_norm.weight",
        ),
        (
            "text_encoder_2",
            "conditioner.embedders.1.model.transformer.resblocks.1.ln_2.bias",
            "1 weights are missing, first encoder.layers.1.layer_norm2.bias",
        ),
    ],
)
def test_a_missing_weight_is_named(files, tmp_path, part, lost, sentence):
    source = find_source(str(without(files["sdxl"], tmp_path / "part.safetensors", lost)))
    with pytest.raises(UserError, match=sentence):
        source.model(part, torch.float32)


def test_a_unet_with_something_more_is_refused(files, tmp_path):
    more = load_file(files["sd1"]) | {"model.diffusion_model.time_embed.cond_proj.weight": torch.ones(32, 8)}
    save_file(more, tmp_path / "lcm.safetensors")
    with pytest.raises(UserError, match="holds more than a Stable Diffusion's: 1 tensors would be left out"):
        find_source(str(tmp_path / "lcm.safetensors")).model("unet", torch.float32)


def test_a_weight_of_another_size_is_named(files, tmp_path):
    wrong = load_file(files["sd1"]) | {"model.diffusion_model.out.0.bias": torch.ones(31)}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=r"conv_norm_out.bias in the unet has sizes \(31,\), not \(32,\)"):
        find_source(str(tmp_path / "wrong.safetensors")).model("unet", torch.float32)


def test_a_file_without_vae_is_a_base_until_the_vae_is_asked_for(files, tmp_path):
    source = find_source(str(without(files["sd1"], tmp_path / "bare.safetensors", "first_stage_model.")))
    assert source.model("unet", torch.float32)
    with pytest.raises(UserError, match=r"holds no vae\nGive a VAE as model.vae"):
        source.model("vae", torch.float32)


def test_the_scheduler_follows_the_facts(files):
    facts = describe_base(files["sdxl"])
    plain = CheckpointSource(facts).scheduler()
    assert plain == {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": False,
    }
    noob = CheckpointSource(replace(facts, prediction="v_prediction", zero_terminal_snr=True)).scheduler()
    assert noob["prediction_type"] == "v_prediction"
    assert noob["timestep_spacing"] == "trailing"
    assert float(DDIMScheduler.from_config(noob).alphas_cumprod[-1]) < 1e-6
    assert float(DDIMScheduler.from_config(plain).alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)
    assert EulerDiscreteScheduler.from_config(noob).config.prediction_type == "v_prediction"


def test_a_folder_follows_the_facts_too(tiny_sd):
    source = find_source(str(tiny_sd))
    assert source.scheduler()["prediction_type"] == "epsilon"
    source.facts = replace(source.facts, prediction="v_prediction", zero_terminal_snr=True)
    assert source.scheduler()["rescale_betas_zero_snr"] is True
    assert source.scheduler()["timestep_spacing"] == "trailing"


def test_clips_own_vocabulary_ships_with_the_program():
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer.room == 75
    assert tokenizer.ids("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (tokenizer.start, tokenizer.end, tokenizer.pad) == (49406, 49407, 49407)


def test_openclip_pads_with_zeros_and_keeps_exclamation_marks():
    tokenizer = clip_tokenizer("!")
    assert len(tokenizer) == 49408
    assert tokenizer.ids("Hello!") == [3306, 256]
    assert tokenizer.pad == 0


@pytest.mark.parametrize(
    ("family", "part", "pad"),
    [("sd1", "", 49407), ("sd2", "", 0), ("sdxl", "", 49407), ("sdxl", "_2", 0)],
)
def test_a_full_vocabulary_brings_its_tokenizer(tiny, tmp_path, family, part, pad):
    tensors = dict(tiny[family].tensors)
    for name in [name for name in tensors if name.endswith("token_embedding.weight")]:
        tensors[name] = torch.zeros(49408, tensors[name].shape[1], dtype=torch.float16)
    save_file(tensors, tmp_path / "alone.safetensors")
    tokenizer = find_source(str(tmp_path / "alone.safetensors")).tokenizer(f"tokenizer{part}")
    assert (tokenizer.ids("cat"), tokenizer.pad) == ([2368], pad)


def test_another_vocabulary_needs_its_tokenizer_beside_the_file(files, tmp_path):
    source = find_source(str(files["sdxl"]))
    assert len(source.tokenizer("tokenizer")) == TOKENS
    assert len(source.tokenizer("tokenizer_2")) == TOKENS
    lonely = tmp_path / "lonely.safetensors"
    lonely.write_bytes(files["sdxl"].read_bytes())
    with pytest.raises(UserError) as raised:
        find_source(str(lonely)).tokenizer("tokenizer_2")
    assert raised.value.where == str(tmp_path / "tokenizer_2")
    assert raised.value.problem == ("the text encoder has 514 tokens, not CLIP's 49408, and its tokenizer is not there")
    assert "Put the folder 'tokenizer_2' of the model" in raised.value.fix


def test_a_tokenizer_of_another_model_is_refused(files, tmp_path):
    source = find_source(str(files["sd1"]))
    write_tokenizer(tmp_path / "tokenizer")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(files["sd1"].read_bytes())
    source = CheckpointSource(BaseFacts(copy, "sd1", "epsilon", False))
    with pytest.raises(UserError, match="49408 tokens and the text encoder 514: they do not belong together"):
        source.tokenizer("tokenizer")


@pytest.mark.parametrize(("family", "part"), PARTS)
def test_nothing_of_a_part_stays_without_memory(files, family, part):
    model = find_source(str(files[family])).model(part, torch.float32)
    assert {at.device.type for at in (*model.parameters(), *model.buffers())} == {"cpu"}
