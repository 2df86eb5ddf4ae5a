"""The `parameters` text, and names that every program takes."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import UserError
from trainer.contract.names import safe_name
from trainer.formats.parameters import (
    Generation,
    LoraUse,
    format_parameters,
    lora_tags,
    parse_parameters,
)

HASH = "0123456789abcdef" * 4


def normal(text):
    """As every reader leaves a prompt: lines stripped, no empty ones at the ends."""
    return "\n".join(line.strip() for line in text.strip().split("\n"))


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<>"), max_size=30)
PROMPTS = WORDS.map(normal).filter(
    lambda text: text == normal(text) and not any(line.startswith("Negative prompt:") for line in text.split("\n"))
)
VALUES = WORDS.map(str.strip)
DECIMALS = st.floats(0, 1e6, allow_nan=False)
HEX = st.text("0123456789abcdef", min_size=12, max_size=12) | st.just("")
STRENGTHS = st.floats(-5, 5, allow_nan=False)
USES = st.builds(LoraUse, WORDS.map(safe_name), STRENGTHS, HEX, st.none() | STRENGTHS)
GENERATIONS = st.builds(
    Generation,
    prompt=PROMPTS,
    negative_prompt=PROMPTS,
    steps=st.integers(1, 150),
    sampler=VALUES,
    schedule=VALUES,
    cfg_scale=DECIMALS,
    seed=st.integers(0, 2**64),
    width=st.integers(8, 4096),
    height=st.integers(8, 4096),
    model_hash=st.text("0123456789abcdef", max_size=10),
    model=VALUES,
    denoising_strength=st.none() | DECIMALS,
    clip_skip=st.integers(1, 12),
    rng=st.sampled_from(["", "CPU"]),
    loras=st.lists(USES, max_size=3, unique_by=lambda use: use.name).map(tuple),
    version=VALUES,
)


def test_the_text_is_what_a1111_writes():
    generation = Generation(
        prompt="a fox, (sharp:1.2)",
        negative_prompt="blurry",
        steps=28,
        sampler="DPM++ 2M",
        schedule="Karras",
        cfg_scale=7.0,
        seed=1,
        width=1024,
        height=768,
        model_hash=HASH,
        model="my, model",
        denoising_strength=0.4,
        clip_skip=2,
        rng="CPU",
        loras=(LoraUse("fox", 0.8, HASH), LoraUse("ink", 1.0, HASH[4:] + HASH[:4])),
        version="LoRA Atelier 0.1.0",
    )
    assert format_parameters(generation) == (
        "a fox, (sharp:1.2) <lora:fox:0.8> <lora:ink:1>\n"
        "Negative prompt: blurry\n"
        "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 1024x768, "
        'Model hash: 0123456789, Model: "my, model", Denoising strength: 0.4, Clip skip: 2, RNG: CPU, '
        'Lora hashes: "fox: 0123456789ab, ink: 456789abcdef", Version: LoRA Atelier 0.1.0'
    )


def test_what_is_empty_is_left_out():
    text = format_parameters(Generation(prompt="a", steps=1, cfg_scale=1.5, seed=0))
    assert text == "a\nSteps: 1, CFG scale: 1.5, Seed: 0"


@given(GENERATIONS)
def test_what_is_written_is_read(generation):
    assert parse_parameters(format_parameters(generation)) == generation


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_for_a_number(text):
    with contextlib.suppress(UserError):
        assert isinstance(parse_parameters(text), Generation)


def test_a_text_without_settings_is_a_prompt():
    assert parse_parameters("a fox\nin snow, Steps: many") == Generation(prompt="a fox\nin snow, Steps: many")


def test_other_programs_tags_are_left_where_they_are():
    text = "fox <hypernet:a:0.5>, snow <lora:b:-1.5> <lora:c:0.5:0.7> end\nSteps: 2, Seed: 3, Size: 64x64, Unknown: 4"
    read = parse_parameters(text)
    assert read.prompt == "fox <hypernet:a:0.5>, snow end"
    assert read.loras == (LoraUse("b", -1.5), LoraUse("c", 0.5, unet=0.7))


def test_a_setting_that_is_no_number_is_named():
    with pytest.raises(UserError, match="parameters: Steps: 'x' is not a number"):
        parse_parameters("a\nSteps: x, Seed: 1, Size: 8x8")


def test_tags_are_plain_decimals_that_civitai_reads():
    tags = lora_tags([LoraUse("a.b-c_1", 1e-05), LoraUse("x: y, <z>", 1.0)])
    assert tags == "<lora:a.b-c_1:0.00001> <lora:x y z:1>"
    assert re.match(r"<(lora|hypernet):[a-zA-Z0-9_.\-]+:[0-9.]+>", tags)
