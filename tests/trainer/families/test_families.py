"""SD 1.x, SD 2.x and SDXL against diffusers' own pipelines, and whole runs on each."""

import json

import pytest
import torch
from diffusers import AutoPipelineForText2Image, EulerDiscreteScheduler
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from tests.tiny import make_pictures, make_tiny_sd
from tests.tiny_checkpoints import tiny_checkpoint
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.adapters.read import read_adapter
from trainer.contract.compose import compose
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture
from trainer.contract.rundir import State, create_run, steps
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.formats.header import read_header
from trainer.preview.answer import answer
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.sampling import Shot, denoise, encode_pairs, noise_sources

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
LONG = "a very long caption about one small cat " * 4  # over 77 of the tiny tokenizer's tokens: it knows single letters


def make_tiny_sd2(folder):
    """SD 1.5's tiny folder with what SD 2.x has: OpenCLIP's activation, linear projections, v-prediction."""
    make_tiny_sd(folder, linear=True)
    for name, changes in {
        "text_encoder/config.json": {"hidden_act": "gelu"},
        "scheduler/scheduler_config.json": {"prediction_type": "v_prediction"},
    }.items():
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**said, **changes}))
    return folder


MAKERS = {"sd1": make_tiny_sd, "sd2": make_tiny_sd2, "sdxl": make_tiny_sdxl}


@pytest.fixture(scope="module", params=MAKERS)
def base(request, tmp_path_factory):
    return request.param, MAKERS[request.param](tmp_path_factory.mktemp("bases") / request.param)


def open_base(folder, **options):
    return load_family(ModelSection(base=str(folder), **options), ENGINE)


@torch.no_grad()
def test_a_picture_is_the_one_that_diffusers_draws(base):
    name, folder = base
    family = open_base(folder)
    assert family.source.facts.family == name
    family.part("unet")
    pipe = AutoPipelineForText2Image.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    shot = Shot(family.resolution, family.resolution, 3, 4.0, "Euler")
    noise = noise_sources(family, shot, [5])[0]
    mine = denoise(family, shot, noise, encode_pairs(family, "ugly", ["a red cat"])[0])
    theirs = pipe(
        "a red cat",
        negative_prompt="ugly",
        width=shot.width,
        height=shot.height,
        num_inference_steps=3,
        guidance_scale=4.0,
        latents=noise,
        output_type="latent",
    ).images
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text_encoder", [False, True])
def test_a_run_on_every_family_learns_and_exports(base, tmp_path, text_encoder, caplog):
    name, folder = base
    pictures = make_pictures(tmp_path / "set", 3, (80, 64))
    layer = {
        "model": {"base": str(folder)},
        "dataset": {"path": str(pictures)},
        "adapter": {"rank": 2, "text_encoder": text_encoder, "dropout": 0.1},
        "training": {"steps": 4, "batch_size": 2, "threads": 1, "accumulation": 2},
        "sampling": {"every": "50%", "steps": 2},
    }
    run = create_run(tmp_path, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    assert run.status().state == State.DONE and len(steps(run)) == 4
    header = read_header(run.adapter_file)
    starts = {key.split("_")[1] for key in header.tensors}
    encoders = {"sd1": {"te"}, "sd2": {"te"}, "sdxl": {"te1", "te2"}}[name] if text_encoder else set()
    assert starts == {"unet"} | encoders
    version = {"sd1": "sd_v1", "sd2": "sd_v2_v", "sdxl": "sdxl_base_v1-0"}[name]
    assert header.metadata["ss_base_model_version"] == version
    pipe = AutoPipelineForText2Image.from_pretrained(folder)
    pipe.load_lora_weights(run.adapter_file.parent, weight_name=run.adapter_file.name)
    loaded = sum(
        name.endswith("lora_A.default_0.weight")
        for part in ("unet", "text_encoder", "text_encoder_2")
        if (model := getattr(pipe, part, None)) is not None
        for name, _ in model.named_parameters()
    )
    assert loaded == sum(key.endswith(".alpha") for key in header.tensors)


@pytest.mark.parametrize("name", MAKERS)
def test_a_run_from_one_checkpoint_file_with_a_vae_from_outside(name, tmp_path):
    tiny = tiny_checkpoint(name)
    file = tiny.write(tmp_path / "base" / "model.safetensors")
    tiny.models["vae"].save_pretrained(tmp_path / "vae")
    layer = {
        "model": {"base": str(file), "vae": str(tmp_path / "vae")},
        "dataset": {"path": str(make_pictures(tmp_path / "set", 3)), "resolution": 64},
        "adapter": {"rank": 2, "text_encoder": True},
        "training": {"steps": 3, "batch_size": 2, "threads": 1},
        "sampling": {"every": "never"},
    }
    run = create_run(tmp_path, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    read = read_adapter(run.adapter_file, open_base(file).parts)
    assert not read.unmatched and {target.part for target in read.updates} == set(open_base(file).parts)


def test_clip_skip_reads_an_earlier_layer(tmp_path):
    folder = make_tiny_sd(tmp_path / "sd")
    last, earlier = open_base(folder), open_base(folder, clip_skip=2)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokens = last.tokenize(["a cat"])
    with torch.no_grad():
        states = encoder(tokens[:, 0, 0], output_hidden_states=True).hidden_states
        wanted = encoder.final_layer_norm(states[-2])
        assert torch.equal(earlier.encode_tokens(tokens).hidden, wanted)
        assert not torch.equal(last.encode_tokens(tokens).hidden, wanted)


def test_a_preview_reads_the_layer_that_the_adapter_was_trained_on(tmp_path):
    folder = make_tiny_sd(tmp_path / "sd")
    layer = {
        "model": {"base": str(folder), "clip_skip": 2},
        "dataset": {"path": str(make_pictures(tmp_path / "set", 2))},
        "adapter": {"rank": 2},
        "training": {"steps": 2, "batch_size": 1, "threads": 1},
        "sampling": {"every": "50%", "steps": 2, "prompts": ["a cat"], "guidance": 3.0, "seed": 9},
    }
    run = create_run(tmp_path, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    assert read_header(run.adapter_file).metadata["ss_clip_skip"] == "2"

    def drawn(**options) -> bytes:
        request = GenerateRequest(
            id="x",
            base=str(folder),
            adapters=(str(run.adapter_file),),
            pictures=(Picture(prompt="a cat", seed=9, strengths=(0.0,)),),
            steps=2,
            guidance=3.0,
            out=str(tmp_path / "out"),
            **options,
        )
        file = answer(PreviewEngine(ModelSection(base=str(folder)), ENGINE), request, Watcher())[0][0]
        with Image.open(file) as image:
            assert ("Clip skip: 2" in image.info["parameters"]) == (options.get("clip_skip", 2) == 2)
            return image.convert("RGB").tobytes()

    with Image.open(run.samples / "s000000-0.png") as before_training:
        assert drawn() == before_training.convert("RGB").tobytes()
    assert drawn() == drawn(clip_skip=2) != drawn(clip_skip=1)


def test_a_long_prompt_goes_with_an_adapter_of_the_text_encoder(base, tmp_path):
    folder = base[1]
    layer = {
        "model": {"base": str(folder)},
        "dataset": {"path": str(make_pictures(tmp_path / "set", 2))},
        "adapter": {"rank": 2, "text_encoder": True},
        "training": {"steps": 2, "batch_size": 1, "threads": 1},
        "sampling": {"every": "never"},
    }
    run = create_run(tmp_path, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    pictures = (Picture(prompt=LONG, strengths=(0.5,)), Picture(prompt="a cat", strengths=(1.0,)))
    options = {"adapters": (str(run.adapter_file),), "pictures": pictures, "steps": 2, "out": str(tmp_path / "out")}
    engine = PreviewEngine(ModelSection(base=str(folder)), ENGINE)
    engine.batch = 2  # as on a GPU: both in one forward pass
    files, notices = answer(engine, GenerateRequest(id="x", base=str(folder), **options), Watcher())
    assert len(files) == 2 and not notices


def test_clip_skip_past_the_first_layer_is_refused(tmp_path):
    with pytest.raises(UserError, match="past the first of the text encoder's 2 layers"):
        open_base(make_tiny_sd(tmp_path / "sd"), clip_skip=3)


def test_clip_skip_is_refused_where_the_family_has_none(tmp_path):
    with pytest.raises(UserError, match="clip skip 1"):
        open_base(make_tiny_sdxl(tmp_path / "xl"), clip_skip=1)


def test_long_captions_are_read_in_chunks_that_start_and_end_like_short_ones(base):
    family = open_base(base[1])
    one = family.tokenize(["a cat"], 3)
    theirs = [CLIPTokenizer.from_pretrained(folder) for folder in sorted(base[1].glob("tokenizer*"))]
    plain = [
        tokenizer("a cat", padding="max_length", truncation=True, return_tensors="pt").input_ids for tokenizer in theirs
    ]
    assert torch.equal(one, torch.stack(plain, dim=1)[:, :, None][:, :, 0].unsqueeze(2))
    long = family.tokenize([LONG, "a cat"], 3)
    chunks = -(-len(LONG.replace(" ", "")) // 75)
    assert 1 < chunks <= 3 and long.shape[2] == chunks
    start, end = theirs[0].bos_token_id, theirs[0].eos_token_id
    assert (long[0, :, :, 0] == start).all() and (long[1, :, 1, :2] == torch.tensor([start, end])).all()
    with torch.no_grad():
        hidden, pooled = family.encode_tokens(long)
        first, first_pooled = family.encode_tokens(long[:, :, :1])
    assert hidden.shape[1] == 77 * chunks
    torch.testing.assert_close(hidden[:, :77], first)
    torch.testing.assert_close(pooled, first_pooled)
    assert family.too_long(LONG, 1) and not family.too_long(LONG, 3)


def test_settings_count_more_than_what_the_base_says(tmp_path):
    folder = make_tiny_sd2(tmp_path / "sd2")
    plain = open_base(folder)
    assert (plain.prediction, plain.scheduler["rescale_betas_zero_snr"]) == ("v_prediction", False)
    told = open_base(folder, zero_terminal_snr="on")
    assert told.scheduler["rescale_betas_zero_snr"]
    assert open_base(folder, prediction="epsilon").prediction == "epsilon"
    with pytest.raises(UserError, match="needs v-prediction"):
        open_base(folder, prediction="epsilon", zero_terminal_snr="on")
