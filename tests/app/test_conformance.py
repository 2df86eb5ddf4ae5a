"""What other programs do with a file, on the command line and on the page."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from app.tabs.library.detail import report
from app.views import conformance, opened, shelf

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TE = "lora_te_text_model_encoder_layers_0_self_attn_out_proj"
CLIENTS = ["A1111", "Forge", "ComfyUI", "SD.Next", "InvokeAI", "SwarmUI", "diffusers"]


def lora(name, height, width):
    return {
        f"{name}.lora_down.weight": np.ones((2, width), np.float16),
        f"{name}.lora_up.weight": np.ones((height, 2), np.float16),
        f"{name}.alpha": np.array(2, np.float16),
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "library" / "mine.safetensors"
    path.parent.mkdir()
    said = {
        "ss_base_model_version": "sd_v1",
        "ss_output_name": "mine",
        "ss_tag_frequency": '{"1_fox<b>": {"fox<b>": 3}}',
    }
    save_file(lora(K, 320, 768) | lora(TE, 768, 768), path, said)
    return path


def inspected(file, *options):
    command = [sys.executable, "-P", "-m", "app", "inspect", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=None).stdout


def test_inspect_prints_a_row_for_each_client(file):
    said = inspected(file)
    assert all(client in said for client in CLIENTS)
    assert said.count("✓") == 6 and said.count("!") >= 1 and "✗" not in said
    assert "1 of 2" in said and "switched on" in " ".join(said.replace("│", " ").split())
    assert "0 NaN" in said and "text encoder 71%" in said


def test_inspect_holds_a_file_against_the_base_that_is_given(file):
    found = json.loads(inspected(file, "--base", "demo", "--json").splitlines()[-1])
    assert (found["matched"], found["modules"], found["conformance"]["base"]) == (0, 2, "LoRA Atelier practice base")
    assert "made for Stable Diffusion 1.x, and the base given is the LoRA Atelier practice base" in found["notes"][0]
    assert found["unmatched"][K] == "sizes of another layer"


def test_inspect_tells_scripts_everything(file):
    found = json.loads(inspected(file, "--json").splitlines()[-1])["conformance"]
    assert [client["client"] for client in found["clients"]] == CLIENTS
    assert {client["outcome"] for client in found["clients"]} == {"loads", "loads with losses"}
    assert all(client["source"] and client["sentence"] and client["listed"] for client in found["clients"])
    assert found["base"] == "Stable Diffusion 1.5" and not found["practice"]
    assert found["numbers"]["nan"] == 0 and found["clients"][3]["left_out_names"] == [TE]


def test_the_library_shows_the_same(file, tmp_path):
    (card,) = shelf.cards(tmp_path)
    shown = [*report(str(file))][-1] + opened.opened_html(card, "", ())
    assert all(f"<th>{client}</th>" in shown for client in CLIENTS)
    assert shown.count(">✓<") == 6 and shown.count(">!<") == 1
    assert "fox&lt;b&gt;" in shown and "fox<b>" not in shown
    assert "Rules from AUTOMATIC1111/stable-diffusion-webui" in shown


def test_a_file_that_changes_is_read_again(file):
    before = conformance.table(file)
    save_file({name: np.full_like(tensor, np.nan) for name, tensor in lora(K, 320, 768).items()}, file)
    after = conformance.table(file)
    assert "NaN or infinite" in after and "NaN or infinite" not in before
