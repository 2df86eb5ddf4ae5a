"""The `parameters` text read by A1111's rules, which are written down here and share nothing with our own reader."""

import json
import re

from hypothesis import given

from tests.trainer.formats.test_parameters import GENERATIONS
from trainer.formats.parameters import format_parameters

# infotext_utils.py of stable-diffusion-webui: a field of the last line, and the size of a picture.
FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")
LEAST = 3  # fields, or the last line belongs to the prompt


def a1111(text):
    """(prompt, negative prompt, fields) as A1111 pastes them."""
    *lines, last = text.strip().split("\n")
    found = FIELD.findall(last)
    if len(found) < LEAST:
        lines, found = [*lines, last], []
    prompt, negative, into = [], [], None
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            into, line = negative, line.removeprefix("Negative prompt:").strip()
        (prompt if into is None else into).append(line)
    fields = {key: json.loads(value) if value[:1] == value[-1:] == '"' else value for key, value in found}
    return "\n".join(prompt), "\n".join(negative), fields


@given(GENERATIONS)
def test_a1111_reads_what_is_written(generation):
    prompt, negative, fields = a1111(format_parameters(generation))
    tags = re.findall(r" ?<lora:([^:>]+):([^:>]+)(?::([^:>]+))?>", prompt)
    assert re.sub(r" ?<lora:[^>]+>", "", prompt) == generation.prompt
    assert negative == generation.negative_prompt
    assert [name for name, *_ in tags] == [use.name for use in generation.loras]
    for (_, text, unet), use in zip(tags, generation.loras, strict=True):
        assert float(text) == use.strength and float(unet or text) == (use.strength if use.unet is None else use.unet)
    expected = {
        "Sampler": generation.sampler, "Schedule type": generation.schedule, "Model": generation.model,
        "Model hash": generation.model_hash, "RNG": generation.rng, "Version": generation.version,
    }  # fmt: skip
    assert {key: fields[key] for key in expected if key in fields} == {k: v for k, v in expected.items() if v}
    assert (int(fields["Steps"]), float(fields["CFG scale"]), int(fields["Seed"])) == (
        generation.steps, generation.cfg_scale, generation.seed,
    )  # fmt: skip
    size = SIZE.match(fields["Size"])
    assert size and (int(size[1]), int(size[2])) == (generation.width, generation.height)
    assert int(fields.get("Clip skip", 1)) == generation.clip_skip
    pairs = [pair.split(": ", 1) for pair in fields.get("Lora hashes", "").split(", ") if pair]
    assert pairs == [[use.name, use.hash] for use in generation.loras if use.hash]
