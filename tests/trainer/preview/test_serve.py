"""The resident engine, as another process speaks to it."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from app.preview import Engine
from trainer.contract.requests import GenerateRequest, Picture
from trainer.formats.parameters import parse_parameters
from trainer.formats.restore import restored

COMMAND = [sys.executable, "-P", "-m", "trainer", "serve"]


@pytest.fixture
def engine():
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    yield process
    process.stdin.close()
    assert process.wait(timeout=30) == 0, "it ends when its input is closed"


def say(process, message) -> None:
    process.stdin.write((message if isinstance(message, str) else json.dumps(message)) + "\n")


def hear(process, kind: str) -> dict:
    for line in process.stdout:
        message = json.loads(line)
        if message["kind"] not in ("progress", "picture"):
            assert message["kind"] == kind, message
            return message
    raise AssertionError("the engine has gone")


def test_pictures_mistakes_and_cancels_in_one_session(engine, tiny_sd, tmp_path):
    request = {
        "id": "one",
        "base": str(tiny_sd),
        "steps": 3,
        "out": str(tmp_path),
        "pictures": [{"prompt": "a cat", "seed": 1}, {"prompt": "a dog", "seed": 2}],
    }
    say(engine, request)
    done = hear(engine, "done")
    assert done["id"] == "one" and len(done["files"]) == 2
    with Image.open(done["files"][1]) as image:
        assert image.size == (64, 64)
        told = parse_parameters(image.text["parameters"])
    assert (told.prompt, told.seed, told.steps, told.sampler) == ("a dog", 2, 3, "DPM++ 2M")

    say(engine, "this is not JSON")
    assert "JSON" in hear(engine, "error")["problem"]
    say(
        engine,
        {
            **request,
            "id": "two",
            "adapters": [str(tmp_path / "none.safetensors")],
            "pictures": [{"prompt": "x", "strengths": [1]}],
        },
    )
    assert "no such adapter" in hear(engine, "error")["problem"]
    say(engine, {**request, "id": "three", "sampler": "Euler z"})
    assert "Euler" in hear(engine, "error")["fix"]
    say(engine, {**request, "id": "four", "size": [65, 64]})
    assert "multiples" in hear(engine, "error")["fix"]

    say(engine, {**request, "id": "five", "steps": 200, "pictures": [{"prompt": "x"}] * 64})
    say(engine, {"cancel": "five"})
    assert hear(engine, "cancelled")["id"] == "five"
    say(engine, {**request, "id": "six"})
    again = hear(engine, "done")
    for first, second in zip(done["files"], again["files"], strict=True):
        with Image.open(first) as a, Image.open(second) as b:
            assert a.tobytes() == b.tobytes(), "the same request gives the same picture"


def test_prompts_name_adapters_and_frames_come_before_the_picture(engine, tiny_sd, tmp_path):
    file = tmp_path / "ink.safetensors"
    save_file(
        {
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.randn(2, 32, 1, 1),
            "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.randn(32, 2, 1, 1),
        },
        file,
    )
    request = {
        "id": "one", "base": str(tiny_sd), "steps": 4, "out": str(tmp_path), "adapters": [str(file)], "frames": 2,
        "rescale": 0.7, "pictures": [{"prompt": "a (cat:1.2) <lora:ink:0.5:2>", "strengths": [0], "seed": 3}],
    }  # fmt: skip
    say(engine, request)
    seen = []
    for line in engine.stdout:
        message = json.loads(line)
        if message["kind"] == "frames":
            with Image.open(message["files"][0]) as image:
                seen.append((message["places"], message["step"], image.size))
        if message["kind"] in ("done", "error"):
            break
    assert seen == [([0], 2, (64, 64))]
    with Image.open(message["files"][0]) as image:
        text, tagged = image.text["parameters"], image.tobytes()
    assert text.startswith("a (cat:1.2) <lora:ink:0.5:2>\nSteps: 4"), text
    asked, told = restored(parse_parameters(text), {"ink": file}, "two", str(tiny_sd), str(tmp_path))
    assert told == []
    say(engine, asked.model_copy(update={"rescale": 0.7}).model_dump_json())
    with Image.open(hear(engine, "done")["files"][0]) as image:
        assert image.tobytes() == tagged, "the text draws the picture again"

    foreign = tmp_path / "foreign.safetensors"
    save_file(
        {
            "lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.randn(2, 640),
            "lora_unet_input_blocks_4_1_proj_in.lora_up.weight": torch.randn(640, 2),
        },
        foreign,
    )
    seed = {"kind": "seed", "values": [1, 2]}
    table = {"picture": request["pictures"][0], "x": seed, "pictures": None}
    for wrong, word in [
        ({"adapters": [str(foreign)], "pictures": [{"prompt": "x", "strengths": [1]}]}, "nothing in this file fits"),
        ({"size": [100, 64]}, "cannot be drawn"),
        ({"size": [1 << 20, 64]}, "4096"),
        ({"pictures": [{"prompt": "x", "strengths": [1], "sampler": "Euler z"}]}, "Euler z"),
        ({**table, "y": {"kind": "strength", "values": ["much"]}}, "no value of the axis 'strength'"),
        ({**table, "y": {"kind": "colour", "values": ["1"]}}, "y.kind"),
        ({**table, "y": seed}, "both axes are 'seed'"),
        ({"pictures": [{"prompt": "a <lora:pen:1>", "strengths": [1]}]}, "no such adapter"),
        ({"pictures": [{"prompt": "x" * 100_000, "strengths": [1]}]}, "20000 characters"),
        ({"pictures": [{"prompt": "x", "strengths": [float("nan")]}]}, "finite"),
        ({"pictures": [{"prompt": "x", "strengths": [{"blocks": "MIDS"}]}]}, "no block preset"),
    ]:
        say(engine, {name: value for name, value in {**request, **wrong}.items() if value is not None})
        for line in engine.stdout:
            message = json.loads(line)
            if message["kind"] not in ("progress", "picture"):
                break
        assert message["kind"] == "error" and word in message["problem"], message
    del table["pictures"], request["pictures"]
    say(engine, {**request, **table, "frames": 0, "y": {"kind": "strength", "values": ["0", "1"]}})
    done = hear(engine, "done")
    assert len(done["files"]) == 4 and done["sheet"].endswith("one-sheet.png"), "it lives on, and draws grids"


def test_it_ends_itself_when_nobody_asks_anything(tiny_sd, tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_IDLE_SECONDS", "1")
    engine = Engine(tmp_path)
    request = GenerateRequest(id="one", base=str(tiny_sd), steps=1, out=str(tmp_path), pictures=(Picture(prompt="x"),))
    assert [answer["kind"] for answer in engine.draw(request, "page")] == ["progress", "picture", "done"]
    first = engine._process
    assert first.wait(timeout=60) == 0, (tmp_path / "preview.log").read_text()
    assert [answer["kind"] for answer in engine.draw(request, "page")][-1] == "done"
    assert engine._process is not first
    engine.close()
    assert "Fatal" not in (tmp_path / "preview.log").read_text()
