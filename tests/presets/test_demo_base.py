"""The embedded base: small enough to ship, whole, and able to draw."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from presets.demo.make.tokenizer import learn_merges, write

ROOT = Path(__file__).parents[2]
BASE = ROOT / "presets/demo/base"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(BASE, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(BASE, subfolder="tokenizer")


def test_it_is_small_enough_to_ship():
    sizes = {path: path.stat().st_size for path in BASE.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 15 * MEGABYTE
    assert sum(sizes.values()) <= 40 * MEGABYTE


def test_its_json_is_strict_and_names_no_folder_of_ours():
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    for path in BASE.rglob("*.json"):
        config = json.loads(path.read_text("utf-8"), parse_constant=refuse)
        assert config.get("_name_or_path", "lora-atelier-demo") == "lora-atelier-demo", path


@pytest.mark.parametrize(
    ("kind", "part"), [(AutoencoderKL, "vae"), (UNet2DConditionModel, "unet"), (CLIPTextModel, "text_encoder")]
)
def test_every_key_of_every_part_is_matched(kind, part):
    _, info = kind.from_pretrained(BASE, subfolder=part, output_loading_info=True)
    assert not any(info.values()), info


def test_text_encoder_keys_have_the_prefix_transformers_4_needs():
    with safe_open(BASE / "text_encoder/model.safetensors", "pt") as weights:
        keys = list(weights.keys())
    assert len(keys) == 68
    assert all(key.startswith("text_model.") for key in keys)


def test_all_parts_load_in_one_precision(pipeline):
    assert {pipeline.vae.dtype, pipeline.unet.dtype, pipeline.text_encoder.dtype} == {torch.float32}


def test_tokenizer_gives_back_what_it_was_given(tokenizer):
    for text in ("cat face on a blue background", "zubo jumping", "tyrannosaurus", "3 café"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_tokenizer_knows_its_own_words_and_its_ends(tokenizer, pipeline):
    ids = tokenizer("cat face", padding="max_length").input_ids
    assert ids[0] == tokenizer.bos_token_id == pipeline.text_encoder.config.bos_token_id
    assert ids[3:] == [tokenizer.eos_token_id] * 74 == [pipeline.text_encoder.config.eos_token_id] * 74
    assert len(tokenizer) == pipeline.text_encoder.config.vocab_size


def test_pooling_reads_the_end_of_the_caption(tokenizer, pipeline):
    ids = tokenizer(
        ["cat face", "a cat face on a blue background"], padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        out = pipeline.text_encoder(ids)
    ends = (ids == tokenizer.eos_token_id).int().argmax(1)
    torch.testing.assert_close(out.pooler_output, out.last_hidden_state[torch.arange(2), ends])


def test_latents_are_centred_and_scaled(pipeline):
    sheet = np.asarray(Image.open(ROOT / "presets/demo/samples.png").convert("RGB"))[6:134, 6:134]
    pixels = torch.tensor(sheet.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        again = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    assert 0.4 < latents.std() < 2 and latents.mean().abs() < 0.7
    assert (again - pixels).abs().mean() < 0.05


def test_it_draws_what_it_is_told(pipeline):
    prompts = ["red apple on a blue background", "red apple"]
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3)).repeat(2, 1, 1, 1)
    pictures = pipeline(prompts, num_inference_steps=8, guidance_scale=4.0, latents=noise, output_type="np").images
    assert pictures.shape == (2, 128, 128, 3)
    on_blue, on_white = pictures
    corner, centre = (slice(0, 12), slice(0, 12)), (slice(52, 76), slice(52, 76))
    assert on_white[corner].mean() > 0.93
    assert on_blue[corner][..., 2].mean() - on_blue[corner][..., 0].mean() > 0.3
    for picture in pictures:
        assert picture[centre][..., 0].mean() - picture[centre][..., 2].mean() > 0.3
        assert picture.std() > 0.1


def test_the_tokenizer_script_learns_frequent_pairs_first(tmp_path):
    assert learn_merges(["cat cat cat hat"], 2) == [("a", "t</w>"), ("c", "at</w>")]
    write(tmp_path, ["cat face", "cat and rocket"])
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.decode(again("rocket cat").input_ids, skip_special_tokens=True) == "rocket cat"
    assert len(again("cat").input_ids) == 3


def test_the_wheel_takes_the_base_along():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "presets" in packages["packages"]
