"""The bundle of a real run: words, cover and sheet, compared with what is computed here from the file's bytes."""

import base64
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from tests.tiny import make_pictures, make_tiny_sd
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run
from trainer.formats.derived import Origin, derived
from trainer.formats.inspect import inspect
from trainer.formats.named import choose, copy_as, file_of
from trainer.pictures.bundle import write_bundle

FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # A1111's own rule for the last line


def made(home, base, pictures, **export):
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "trigger": "ohwx fox"},
        "adapter": {"rank": 4},
        "training": {"steps": 4, "batch_size": 2, "save_every": "1", "threads": 1},
        "sampling": {
            "every": "50%", "steps": 2, "prompts": ["ohwx fox, secret: snow", "a tree"], "negative": "grey",
            "strengths": [0.0, 1.0], "sampler": "DPM++ 2M Karras",
        },
        "export": {"author": "Anna", "description": "A fox.", **export},
    }  # fmt: skip
    run = create_run(home, "fox", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("bundle")
    return made(home, make_tiny_sd(home / "sd"), make_pictures(home / "pictures", 3))


def packed(file, target):
    names = write_bundle(file, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None and archive.namelist() == names
        return {name: archive.read(name) for name in names}


def body_hash(blob):
    return hashlib.sha256(blob[8 + int.from_bytes(blob[:8], "little") :]).hexdigest()


def settings_of(text):
    return {key: value.strip('"') for key, value in FIELD.findall(text.split("\n")[-1])}


def test_the_bundle_of_a_run(run, tmp_path):
    held = packed(run.adapter_file, tmp_path / "fox.zip")
    assert list(held) == ["fox.safetensors", "fox.json", "fox.png", "fox-samples.png"]
    blob = run.adapter_file.read_bytes()
    assert held["fox.safetensors"] == blob
    words = json.loads(held["fox.json"])
    whole, body = hashlib.sha256(blob).hexdigest().upper(), body_hash(blob)
    (version,) = words.pop("modelVersions")
    assert version["files"][0]["hashes"] == {"SHA256": whole, "AutoV2": whole[:10], "AutoV3": body[:12].upper()}
    assert version["trainedWords"] == words["trainedWords"] == ["ohwx fox"]
    assert "Preferred weight: 1 is the strength it was trained at; no other was measured." in words["notes"]
    assert {key: words[key] for key in ("description", "sd version", "activation text", "preferred weight")} == {
        "description": "A fox.", "sd version": "SD1", "activation text": "ohwx fox", "preferred weight": 1.0,
    }  # fmt: skip
    assert words["tags"][0] == "ohwx fox" and words["negative text"] == ""
    with Image.open(io.BytesIO(held["fox.png"])) as cover, Image.open(run.samples / "s000004-0.png") as drawn:
        text = cover.text["parameters"]
        assert np.array_equal(cover, drawn)
    prompt, negative, last = text.split("\n")
    assert prompt == "ohwx fox, secret: snow <lora:fox:1>" and negative == "Negative prompt: grey"
    found = settings_of(text)
    assert last.startswith("Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 42, Size: 64x64")
    assert found["Lora hashes"] == f"fox: {body[:12]}" and found["Model"] == "sd" and found["RNG"] == "CPU"
    assert re.fullmatch(r"LoRA Atelier \d+\.\d+\.\d+", found["Version"])
    with Image.open(io.BytesIO(held["fox-samples.png"])) as sheet:
        assert sheet.width > 2 * 64 and sheet.height > 2 * 64, "two prompts down, two strengths across"
        assert "parameters" not in sheet.info
    write_bundle(run.adapter_file, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "fox.zip").read_bytes()


def test_a_save_has_the_pictures_of_its_own_step_or_no_claim(run, tmp_path):
    second = packed(run.step_file(2), tmp_path / "two.zip")
    assert list(second)[2] == "fox-s000002.png"
    with Image.open(io.BytesIO(second["fox-s000002.png"])) as cover:
        digest = body_hash(run.step_file(2).read_bytes())
        assert settings_of(cover.text["parameters"])["Lora hashes"] == f"fox-s000002: {digest[:12]}"
    third = packed(run.step_file(3), tmp_path / "three.zip")
    with Image.open(io.BytesIO(third["fox-s000003.png"])) as cover, Image.open(run.samples / "s000002-0.png") as drawn:
        assert np.array_equal(cover, drawn) and "parameters" not in cover.info, "step 3 was never drawn"


def test_the_chosen_one_is_of_its_own_name(run, tmp_path):
    best = choose(run, file_of(run, 2))
    held = packed(best, tmp_path / "best.zip")
    assert next(iter(held)) == "fox-best.safetensors"
    assert body_hash(best.read_bytes()) == body_hash(run.step_file(2).read_bytes())
    with Image.open(io.BytesIO(held["fox-best.png"])) as cover:
        assert "<lora:fox-best:1>" in cover.text["parameters"]
    assert choose(run, run.adapter_file) == best and choose(run, best) == best
    assert body_hash(best.read_bytes()) == body_hash(run.adapter_file.read_bytes())
    best.unlink()


def test_private_captions_are_nowhere_in_it(run, tmp_path):
    home = run.path.parents[1]
    private = made(tmp_path, home / "sd", home / "pictures", captions=False, preferred_weight=0.75)
    held = packed(private.adapter_file, tmp_path / "private.zip")
    assert b"secret" not in held["fox.safetensors"] and b"secret" not in held["fox.json"]
    words = json.loads(held["fox.json"])
    assert (words["tags"], words["preferred weight"]) == (["ohwx fox"], 0.75)
    with Image.open(io.BytesIO(held["fox.png"])) as cover:
        text = cover.text["parameters"]
    assert text.startswith("<lora:fox:1>\nSteps: 2, ") and "secret" not in text


def test_a_file_from_elsewhere_has_what_lies_beside_it(tmp_path):
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(save({"lora_unet_conv_in.lora_down.weight": np.ones((1, 4), np.float16)}))
    assert list(packed(file, tmp_path / "a.zip")) == ["theirs.safetensors", "theirs.json"]
    Image.new("RGB", (8, 8), "red").save(tmp_path / "theirs.webp")
    held = packed(file, tmp_path / "b.zip")
    words = json.loads(held["theirs.json"])
    assert list(held)[2] == "theirs.png" and (words["sd version"], words["activation text"]) == ("Unknown", "")
    copy_as(file, tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() == file.read_bytes(), "it names itself nowhere"


def bomb():
    """A PNG of a few hundred bytes that says it is 60 000 pixels wide and high."""
    made = io.BytesIO()
    Image.new("1", (8, 8)).save(made, "PNG")
    head = b"IHDR" + struct.pack(">II", 60_000, 60_000) + made.getvalue()[24:29]
    return made.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + made.getvalue()[33:]


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    "said",
    [{"ss_tag_frequency": DEEP}, {"ssmd_cover_images": DEEP}, {"ss_tag_frequency": '{"1_a": {"x": Infinity}}'},
     {"ssmd_cover_images": json.dumps([base64.b64encode(bomb()).decode()])}],
    ids=["tags nested without end", "covers nested without end", "a tag without end", "a cover beyond all memory"],
)  # fmt: skip
def test_what_a_foreign_file_says_of_itself_stops_no_bundle(said, tmp_path):
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(save({"lora_unet_conv_in.lora_down.weight": np.ones((1, 4), np.float16)}, said))
    assert list(packed(file, tmp_path / "a.zip")) == ["theirs.safetensors", "theirs.json"]
    assert "ss_base_model_version" not in derived([Origin(inspect(file), said)] * 2, "merged", tmp_path / "b", 4)
