"""A VAE from outside the base: every layout that is about, and every refusal."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny_checkpoints import prefixed, scattered, tiny_unet, tiny_vae, vae_to_ldm
from trainer.contract.errors import UserError
from trainer.families.vae import load_vae

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(5)
    return scattered(tiny_vae())


def contiguous(tensors):
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def old_names(tensors):
    found = {}
    for name, tensor in tensors.items():
        for new, old in OLD.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        found[name] = tensor
    assert sum("proj_attn" in name for name in found) == 4
    return found


LAYOUTS = {
    "ldm": lambda vae: vae_to_ldm(vae) | {"loss.logvar": torch.zeros(1)},
    "ldm with prefix": lambda vae: prefixed("first_stage_model.", vae_to_ldm(vae)),
    "diffusers": lambda vae: vae.state_dict(),
    "diffusers of 2022": lambda vae: old_names(vae.state_dict()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_the_vae_it_was_written_from(vae, tmp_path, layout):
    save_file(contiguous(LAYOUTS[layout](vae)), tmp_path / "vae.safetensors")
    loaded = load_vae(str(tmp_path / "vae.safetensors"), 4, torch.float32, "sdxl")
    assert loaded.state_dict().keys() == vae.state_dict().keys()
    for name, tensor in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).sample, vae(pixels).sample)
    assert loaded.config.scaling_factor == 0.13025
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_a_folder_keeps_its_own_scaling_factor(vae, tmp_path):
    vae.register_to_config(scaling_factor=0.5)
    vae.save_pretrained(tmp_path / "vae")
    vae.register_to_config(scaling_factor=0.18215)
    loaded = load_vae(str(tmp_path / "vae"), 4, torch.float32, "sdxl")
    assert loaded.config.scaling_factor == 0.5
    (tmp_path / "model_index.json").write_text("{}")
    assert load_vae(str(tmp_path), 4, torch.bfloat16).dtype == torch.bfloat16


def lone(folder, tensors):
    save_file(contiguous(tensors), folder / "x.safetensors")
    return folder / "x.safetensors"


def other_folder(folder):
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    return folder


def pickled(folder):
    (folder / "vae.pt").write_bytes(b"PK\x03\x04")
    return folder / "vae.pt"


def cut(folder):
    path = lone(folder, vae_to_ldm(tiny_vae()))
    path.write_bytes(path.read_bytes()[:-9])
    return path


def half(folder):
    tensors = vae_to_ldm(tiny_vae())
    del tensors["decoder.norm_out.weight"]
    return lone(folder, tensors)


REFUSED = {
    "missing": (lambda folder: folder / "no.safetensors", "there is no such file or folder"),
    "pickle": (pickled, "This is a pickle file"),
    "cut off": (cut, "it may be cut off"),
    "lacks a weight": (half, "1 weights are missing, first decoder.conv_norm_out.weight"),
    "unet": (lambda folder: lone(folder, tiny_unet("sd1").state_dict()), "it is a UNet without its text encoders, and"),
    "lora": (lambda folder: lone(folder, {"lora_unet_x.lora_up.weight": torch.ones(2)}), "it is a LoRA or another"),
    "empty folder": (lambda folder: folder, "the folder holds no config.json"),
    "other folder": (other_folder, "the folder holds AutoencoderTiny, not AutoencoderKL"),
    "channels": (lambda folder: lone(folder, vae_to_ldm(tiny_vae(16))), "has 16 latent channels, and the base works"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_with_the_setting_named(tmp_path, case):
    make, sentence = REFUSED[case]
    place = make(tmp_path)
    with pytest.raises(UserError, match=sentence) as raised:
        load_vae(str(place), 4, torch.float32)
    assert raised.value.where == "model.vae"
    assert str(place) in raised.value.problem
    assert raised.value.fix
