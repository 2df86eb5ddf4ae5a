"""The resident engine, as another process speaks to it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from trainer.formats.parameters import parse_parameters


@pytest.fixture
def engine():
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    yield process
    process.stdin.close()
    assert process.wait(timeout=30) == 0, "it ends when its input is closed"


def say(process, message) -> None:
    process.stdin.write((message if isinstance(message, str) else json.dumps(message)) + "\n")


def hear(process, kind: str) -> dict:
    for line in process.stdout:
        message = json.loads(line)
        if message["kind"] != "progress":
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
