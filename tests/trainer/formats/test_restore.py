"""A picture's text becomes the request that draws it again."""

from pathlib import Path

import pytest

from trainer.contract.catalog import SAMPLERS
from trainer.contract.errors import UserError
from trainer.contract.requests import Strength
from trainer.formats.parameters import Generation, LoraUse, parse_parameters
from trainer.formats.restore import restored, sampler_of

TEXT = """a fox <lora:ink:0.8> <lora:old:0.5:1> <lora:gone:1>
Negative prompt: blurry
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 11, Size: 128x64, Clip skip: 2, \
Lora hashes: "old: 0123456789ab", Version: v1.10.1"""
HERE = {"ink": Path("ink.safetensors"), "0123456789ab": Path("renamed.safetensors"), "old": Path("other.safetensors")}


def test_everything_that_the_text_says_is_asked_for():
    request, told = restored(parse_parameters(TEXT), HERE, "x", "demo", "out")
    picture = request.pictures[0]
    assert (picture.prompt, picture.negative, picture.seed) == ("a fox", "blurry", 11)
    assert (request.steps, request.guidance, request.size, request.clip_skip) == (28, 7.0, (128, 64), 2)
    assert request.sampler == "DPM++ 2M Karras"
    assert request.adapters == ("ink.safetensors", "renamed.safetensors")
    assert picture.strengths == (0.8, Strength(unet=1.0, text_encoder=0.5))
    assert len(told) == 2 and "'gone' is not here" in told[0] and "GPU" in told[1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_finds_back(name):
    row = SAMPLERS[name]
    assert sampler_of(row.title, row.schedule) == name == sampler_of(name, "")


def test_automatic_is_what_a1111_takes_it_for():
    assert sampler_of("DPM++ 2M", "Automatic") == "DPM++ 2M Karras" == sampler_of("DPM++ 2M", "Karras")
    assert sampler_of("DPM++ 2M", "") == "DPM++ 2M", "before 1.9 it had no other word for the plain one"
    assert sampler_of("Euler", "Automatic") == "Euler" and sampler_of("Euler", "Karras") == ""


def test_what_is_not_here_is_said():
    request, told = restored(Generation("a fox", sampler="Restart", schedule="Beta", rng="CPU"), {}, "x", "demo", "out")
    assert request.sampler == "DPM++ 2M" and "Restart" in told[0] and len(told) == 1
    assert restored(Generation("a", loras=(LoraUse("ink"),), rng="CPU"), HERE, "x", "demo", "out")[1] == []
    with pytest.raises(UserError, match="steps"):
        restored(Generation("a", steps=9000), {}, "x", "demo", "out")
