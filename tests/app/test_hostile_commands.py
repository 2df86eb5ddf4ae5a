"""Every command that reads an adapter file, given bad ones: a sentence, exit code 2, quickly, and nothing written."""

import json
import os
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save

import app.__main__ as atelier
from app.commands import tools
from tests.trainer.formats.test_hostile import FILES, SECONDS, raw
from trainer.__main__ import main as trainer
from trainer.contract.errors import UserError
from trainer.formats.clients.numbers import measure
from trainer.formats.header import read_header

STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
SAID = {"ss_base_model_version": "sd_v1"}
DEEP = "[" * 100_000 + "]" * 100_000
ESCAPES = "lora_unet_\x1b[2J\x1b]0;gone\x07\n<script>[/red]"
TOOLS = {
    "analyze": {}, "resize": {"rank": 2}, "resize by energy": {"energy": 0.9}, "convert to kohya": {"to": "kohya"},
    "convert to diffusers": {"to": "diffusers"}, "convert to lora": {"to": "lora"}, "merge": {},
    "merge by svd": {"rank": 2},
}  # fmt: skip
LOOKS = ("inspect", "inspect --json", "export --format kohya", "export --format diffusers", "export --format bundle")


def full(*shape, value=0.01, kind=np.float16):
    return np.full(shape, value, kind)


def lora(stem=STEM, up=(320, 4), down=(4, 320), alpha=4.0, value=0.01, kind=np.float16):
    held = {
        f"{stem}.lora_up.weight": full(*up, value=value, kind=kind),
        f"{stem}.lora_down.weight": full(*down, kind=kind),
    }
    return held | ({} if alpha is None else {f"{stem}.alpha": np.asarray(alpha, np.float32)})


def halves(kind):
    """A LoRA whose numbers are of a type that only its header knows."""
    entry = '"%s.lora_%s.weight":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}'
    both = (entry % (STEM, "up", kind, [8, 1], 0, 64), entry % (STEM, "down", kind, [1, 8], 64, 128))
    return raw(f"{{{','.join(both)}}}".encode(), b"\x10" * 128)


# What no tool can work with: refused.
USELESS = {
    "NaN": lambda: save(lora(value=np.nan), SAID),
    "infinite": lambda: save(lora(value=np.inf), SAID),
    "an alpha that is NaN": lambda: save(lora(alpha=np.nan), SAID),
    "an alpha that is infinite": lambda: save(lora() | lora(f"{STEM[:-1]}k", alpha=-np.inf), SAID),
    "an alpha of three numbers": lambda: save(lora(alpha=[1, 2, 3]), SAID),
    "halves of two ranks": lambda: save(lora(up=(320, 8)), SAID),
    "vectors": lambda: save(lora(up=(320,), down=(320,)), SAID),
    "single numbers": lambda: save(lora(up=(), down=()), SAID),
    "rank 0": lambda: save(lora(up=(320, 0), down=(0, 320)), SAID),
    "no outputs": lambda: save(lora(up=(0, 4)), SAID),
    "up alone": lambda: save({f"{STEM}.lora_up.weight": full(320, 4)}, SAID),
    "alpha alone": lambda: save({f"{STEM}.alpha": full()}, SAID),
    "a kernel on the wrong side": lambda: save(lora(CONV, (320, 4, 3, 3), (4, 320, 1, 1)), SAID),
    "a core of another rank": lambda: save(
        lora(CONV, (320, 4, 1, 1), (4, 320, 1, 1)) | {f"{CONV}.lora_mid.weight": full(5, 4, 3, 3)}, SAID
    ),
    "no tensors": lambda: save({}, SAID),
    "a small file for a huge layer": lambda: save(lora(up=(200_000, 1), down=(1, 200_000))),
    "a bias that is NaN": lambda: save(lora() | {f"{STEM}.diff_b": full(320, value=np.nan)}, SAID),
    "numbers beyond float32": lambda: save(lora(value=1e300, kind=np.float64), SAID),
    "an unknown number type": lambda: halves("F7"),
    "complex numbers": lambda: halves("C64"),
    "ten thousand tensors": lambda: save({f"t{number}": full(1) for number in range(10_000)}),
}
# What may be read: done or refused, as the tool can, but never by a fault of ours.
ODD = {
    "alpha 0": lambda: save(lora(alpha=0), SAID),
    "an alpha below 0": lambda: save(lora(alpha=-4), SAID),
    "an alpha of 1e38": lambda: save(lora(alpha=1e38), SAID),
    "an alpha in a list": lambda: save(lora(alpha=[4.0]), SAID),
    "a whole number for an alpha": lambda: save(lora(alpha=None) | {f"{STEM}.alpha": np.array(4)}, SAID),
    "of another size": lambda: save(lora(down=(4, 77)), SAID),
    "a convolution without sides": lambda: save(lora(CONV, (320, 4), (4, 2880)), SAID),
    "a layer in two spellings": lambda: save(
        lora() | {f"unet.{STEM[10:]}.lora_A.weight": full(4, 320), f"{STEM}.lora_B.weight": full(320, 4)}, SAID
    ),
    "lengths of 0": lambda: save(lora() | {f"{STEM}.dora_scale": full(320, 1, value=0)}, SAID),
    "a bias alone": lambda: save({f"{STEM}.diff_b": full(320)}, SAID),
    "a norm alone": lambda: save({f"{CONV[:-5]}norm1.{one}": full(320) for one in ("w_norm", "b_norm")}, SAID),
    "a Kronecker product for another layer": lambda: save(
        {f"{STEM}.lokr_w1": full(1000, 1000), f"{STEM}.lokr_w2": full(1000, 1000)}, SAID
    ),
    "a butterfly of more stages than there are outputs": lambda: save({f"{STEM}.oft_blocks": full(7, 160, 2, 2)}, SAID),
    "names that move the cursor": lambda: save(lora(ESCAPES) | lora(f"{ESCAPES}2", (320, 8)) | lora(), SAID),
    "only such names": lambda: save(lora(ESCAPES), SAID),
    "names that are suffixes": lambda: save(
        {f"{dot}lora_{half}.weight": full(1, 1) for dot in ("", ".") for half in ("up", "down")}, SAID
    ),
    "a name of a million signs": lambda: save(lora() | {"x" * 1_000_000: full(1), "." * 100_000: full(1)}, SAID),
    "another base than it says": lambda: save(lora("lora_te2_text_model_encoder_layers_0_mlp_fc1"), SAID),
    "metadata that nests": lambda: save(
        lora(), SAID | dict.fromkeys(("ss_tag_frequency", "ss_datasets", "lora_adapter_metadata"), DEEP)
    ),
    "metadata of other kinds": lambda: save(
        lora(),
        SAID | {"ss_tag_frequency": '{"1_x":[1],"2":5,"3":{"a":"b","c":null,"d":1e999}}', "ss_datasets": "[1,null]"},
    ),
    "metadata of long numbers": lambda: save(
        lora(), SAID | dict.fromkeys(("ss_network_dim", "ss_clip_skip", "ss_steps", "ss_tag_frequency"), "9" * 5000)
    ),
    "metadata for a terminal": lambda: save(
        lora(), SAID | dict.fromkeys(("ss_output_name", "modelspec.trigger_phrase"), ESCAPES)
    ),
    "8 bit": lambda: save(lora(kind=np.int8, value=1), SAID),
}  # fmt: skip


def tool(name, path, capsys):
    """Exit code, what it said last, what it complained of."""
    out, request = path.with_name("out.safetensors"), path.with_name("request.json")
    asked = {"device": "cpu", **TOOLS[name]} | ({} if name == "analyze" else {"out": str(out)})
    both = [{"file": str(path)}, {"file": str(path), "strength": -0.5}]
    asked |= {"adapters": both} if name.startswith("merge") else {"file": str(path)}
    request.write_text(json.dumps(asked))
    code = trainer([name.split()[0], str(request)])
    request.unlink()
    said = capsys.readouterr()
    return code, json.loads(said.out.splitlines()[-1]), said.err


def command(line, path, capsys, monkeypatch):
    """Exit code, and all that it said."""
    name, *options = line.split()
    place = ["--out", str(path.with_name("out")), "--data-dir", str(path.with_name("home"))] if name == "export" else []
    monkeypatch.setattr(sys, "argv", ["atelier", name, str(path), *options, *place])
    with pytest.raises(SystemExit) as ended:
        atelier.main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


def names(folder):
    return {path.name for path in folder.iterdir()}


def in_all(path, capsys, monkeypatch):
    """Run everything; yield (name, exit code, words) of each, and see that it is decent."""
    for name in (*TOOLS, *LOOKS):
        began, there = time.process_time(), names(path.parent)
        if name in TOOLS:
            code, answer, complaint = tool(name, path, capsys)
            words = answer.get("problem", "")
        else:
            code, words, complaint = command(name, path, capsys, monkeypatch)
            assert not set("\x1b\x07") & set(words + complaint), name
            words += complaint
        assert time.process_time() - began < 2 * SECONDS, name
        assert code in (0, 2) and "Traceback" not in complaint, f"{name}: {complaint}"
        if code:
            assert words and len(words) < 2000, name
            assert names(path.parent) <= there | {"home"}, f"{name} left something"
        yield name, code, words
        for left in names(path.parent) - there - {"home"}:
            if left == "out.safetensors":
                found = measure(path.with_name(left), read_header(path.with_name(left)))
                assert not found.nan + found.infinite, name
            path.with_name(left).unlink()


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_sound_file_is_refused_by_every_command(name, tmp_path, capsys, monkeypatch):
    make, words = FILES[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(make())
    for asked, code, said in in_all(path, capsys, monkeypatch):
        assert code == 2 and words in said, asked


@pytest.mark.parametrize("name", USELESS)
def test_what_no_tool_can_use_is_refused_by_every_tool(name, tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(USELESS[name]())
    for asked, code, _ in in_all(path, capsys, monkeypatch):
        assert code == (2 if asked in TOOLS else code), asked
        assert code == 0 or not asked.startswith("inspect"), "it says what is in any sound file"


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_done_or_refused(name, tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(ODD[name]())
    codes = {asked: code for asked, code, _ in in_all(path, capsys, monkeypatch)}
    assert codes["inspect"] == codes["inspect --json"] == 0


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "too long a name", "nothing"])
def test_what_is_no_file_holds_nobody_up(kind, tmp_path, capsys, monkeypatch):
    path = tmp_path / ("x" * 300 if kind == "too long a name" else "a.safetensors")
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "loop": lambda: path.symlink_to(path)}.get(kind, bool)()
    for asked, code, _ in in_all(path, capsys, monkeypatch):
        assert code == 2, asked
    for work in (tools.analyze, lambda *given, **more: tools.resize(*given, rank=1, **more)):
        with pytest.raises(UserError):
            work(str(path), data_dir=tmp_path / "home")


@pytest.mark.parametrize("place", ["gone/there/b.safetensors", "a.safetensors/b.safetensors", "x" * 300, "loop"])
def test_where_nothing_can_be_written_is_said(place, tmp_path, capsys):
    path, out = tmp_path / "a.safetensors", tmp_path / place
    path.write_bytes(save(lora(), SAID))
    if place == "loop":
        out.symlink_to(out)
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"file": str(path), "rank": 1, "out": str(out)}))
    assert trainer(["resize", str(request)]) == (0 if place.startswith("gone") else 2)
    assert "Traceback" not in capsys.readouterr().err
