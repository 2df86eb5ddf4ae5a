"""Enough for a card, from the header alone: the same as the whole inspection says, and no file makes it fall over."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.app.saved_run import adapter_bytes
from tests.tiny_checkpoints import tiny_checkpoint
from trainer.formats.glance import ADAPTER, BASE, OTHER, glance
from trainer.formats.inspect import inspect

LORA_B = ".lora_B.weight"
K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(name: str, width: int, down: str = ".lora_down.weight", up: str = ".lora_up.weight") -> dict[str, np.ndarray]:
    return {f"{name}{down}": np.ones((4, width), np.float16), f"{name}{up}": np.ones((320, 4), np.float16)}


FILES = {
    "kohya 1.x": (lora(f"lora_unet_{K}", 768), {}),
    "kohya 2.x": (lora(f"lora_unet_{K}", 1024), {"format": "pt"}),
    "kohya XL": (lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048), {"ss_network_dim": "4"}),
    "XL, second text encoder": (lora("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280), {}),
    "text encoder alone": (lora("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768), {}),
    "PEFT": (
        lora("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 768, ".lora_A.weight", LORA_B),
        {},
    ),
    "says it": (
        lora(f"lora_unet_{K}", 768),
        {"ss_base_model_version": "sd_v1", "ss_output_name": 'a "__metadata__": {', "modelspec.trigger_phrase": "zq"},
    ),
    "LoHa": (
        {f"lora_unet_{K}.hada_w{n}_{side}": np.ones((320, 4) if side == "a" else (4, 768), np.float16)
         for n in (1, 2) for side in "ab"},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_it_says_what_the_inspection_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file(*(FILES[name][0], path, FILES[name][1] or None))
    seen, whole = glance(path), inspect(path)
    assert (seen.kind, seen.family, seen.method, seen.base, seen.title, seen.triggers) == (
        ADAPTER, whole.family, whole.method, whole.base, whole.title, whole.triggers,
    )  # fmt: skip
    assert (seen.rank,) == whole.ranks and not seen.problem


def test_one_of_ours_tells_its_cover(tmp_path: Path) -> None:
    (tmp_path / "fox.safetensors").write_bytes(adapter_bytes("fox", 100))
    seen = glance(tmp_path / "fox.safetensors")
    assert seen.cover and seen.rank == 2 and seen.triggers == ("ohwx fox",) and "ohwx fox" in seen.hint


def test_metadata_may_stand_last(tmp_path: Path) -> None:
    entry = {"dtype": "F16", "shape": [4, 768], "data_offsets": [0, 6144]}
    content = {f"lora_unet_{K}.lora_down.weight": entry, "__metadata__": {"ss_output_name": "late"}}
    text = json.dumps(content).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(6144))
    assert (glance(path).title, glance(path).rank) == ("late", 4)


@pytest.mark.parametrize(("family", "title"), [("sd1", "Stable Diffusion 1"), ("sdxl", "Stable Diffusion XL")])
def test_a_base_is_told_by_its_names(tmp_path: Path, family: str, title: str) -> None:
    seen = glance(tiny_checkpoint(family).write(tmp_path / "base.safetensors"))
    assert seen.kind == BASE and title in seen.family


def test_what_is_beside_it_counts_first(tmp_path: Path) -> None:
    path, beside = tmp_path / "x.safetensors", tmp_path / "x.json"
    save_file(lora(f"lora_unet_{K}", 768), path, {"modelspec.trigger_phrase": "inner"})
    assert glance(path, beside).triggers == ("inner",)
    beside.write_text(json.dumps({"activation text": "outer, ", "preferred weight": 0.7}))
    assert (glance(path, beside).triggers, glance(path, beside).strength) == (("outer",), 0.7)
    beside.write_text(json.dumps({"trainedWords": ["a", 3, "b"], "preferred weight": 0}))
    assert (glance(path, beside).triggers, glance(path, beside).strength) == (("a", "b"), None)
    beside.write_text(json.dumps({"activation text": "half \ud83d", "preferred weight": 10**400}))
    assert (glance(path, beside).triggers, glance(path, beside).strength) == (("half ?",), None)
    beside.write_text("[[[")
    assert glance(path, beside).triggers == ("inner",)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_file_makes_it_fall_over(tmp_path_factory: pytest.TempPathFactory, data: bytes, framed: bool) -> None:
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    head = b'{"lora_x":' if len(data) % 2 else b'{"__metadata__":'
    path.write_bytes((len(head + data)).to_bytes(8, "little") + head + data if framed else data)
    seen = glance(path)
    assert seen.kind in (ADAPTER, BASE, OTHER)


def test_a_file_that_is_none_says_why(tmp_path: Path) -> None:
    assert "could not be read" in glance(tmp_path / "none.safetensors").problem
    (tmp_path / "x.safetensors").write_bytes(b"PK\x03\x04" + bytes(64))
    assert "pickle" in glance(tmp_path / "x.safetensors").problem
