"""The same adapter in diffusers' names: diffusers draws what it draws from the kohya file."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save

from tests.trainer.export.test_kohya_export import diffusers_picture, write_adapter
from trainer.contract.errors import UserError
from trainer.formats.header import body_sha256, parse_header
from trainer.formats.peft_file import as_peft

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(alpha=2.0, dtype=torch.float16, rank=4):
    return {
        f"{K}.lora_down.weight": torch.full((rank, 768), 0.3, dtype=dtype),
        f"{K}.lora_up.weight": torch.full((320, rank), 0.7, dtype=dtype),
        f"{K}.alpha": torch.tensor(alpha, dtype=dtype),
    }


def test_diffusers_draws_the_same_from_both_forms(tiny_sd, tmp_path):
    file, other = tmp_path / "mine.safetensors", tmp_path / "mine-diffusers.safetensors"
    write_adapter(tiny_sd, file, True, 0.3, "everything")
    other.write_bytes(as_peft(file.read_bytes(), other.stem))
    names = set(load_file(other))
    assert "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight" in names
    assert "unet.mid_block.resnets.0.conv1.lora_B.weight" in names
    assert "text_encoder.text_model.encoder.layers.1.mlp.fc2.lora_A.weight" in names
    assert len(names) * 3 == len(load_file(file)) * 2, "no alphas"
    theirs, base = diffusers_picture(tiny_sd, file, 1.0), diffusers_picture(tiny_sd, file, None)
    assert np.abs(theirs - base).mean() > 2
    assert np.abs(diffusers_picture(tiny_sd, other, 1.0) - theirs).max() <= 2
    pattern = json.loads(parse_header(other.read_bytes()).metadata["lora_adapter_metadata"])
    assert pattern["unet.r"] == pattern["unet.lora_alpha"] == 4
    assert pattern["unet.rank_pattern"]["mid_block.resnets.0.conv1"] == 2 and "text_encoder.rank_pattern" in pattern


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("alpha", [4.0, 2.0, 3.0])
def test_up_takes_in_the_scale_as_torch_would_round_it(alpha, dtype):
    tensors = lora(alpha, dtype)
    blob = as_peft(save(tensors), "x")
    found = load(blob)
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    assert found.keys() == {f"{name}.lora_A.weight", f"{name}.lora_B.weight"}
    assert torch.equal(found[f"{name}.lora_A.weight"], tensors[f"{K}.lora_down.weight"])
    wanted = (tensors[f"{K}.lora_up.weight"].double() * alpha / 4).to(dtype)
    assert torch.equal(found[f"{name}.lora_B.weight"], wanted)
    metadata = parse_header(blob).metadata
    assert metadata["sshs_model_hash"] == body_sha256(blob) and metadata["ss_output_name"] == "x"


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({**lora(), f"{K}.dora_scale": torch.ones(1, 768)}, "plain LoRA only"),
        ({f"{K}.lora_down.weight": torch.ones(4, 768)}, "lacks one of its matrices"),
        ({"unet.conv_in.lora_down.weight": torch.ones(1, 4)}, "no module name of kohya's"),
        ({**lora(60000.0), f"{K}.lora_up.weight": torch.full((320, 4), 9.0).half()}, "too large for fp16"),
        ({**lora(), f"{K}.alpha": torch.ones(2)}, "alpha that is not one number"),
        (lora(rank=0), "a tensor without numbers"),
        ({name: torch.tensor(1.0) for name in lora()}, "cannot be applied"),
        ({name: value.to(torch.float8_e4m3fn) for name, value in lora().items()}, "F8_E4M3"),
    ],
)
def test_what_it_cannot_hold_is_refused(tensors, problem):
    with pytest.raises(UserError, match=problem):
        as_peft(save(tensors), "x")
