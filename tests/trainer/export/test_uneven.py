"""Files in which one layer has a far larger rank than all others: memory goes with the file, not with that rank."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from tests.trainer.export.test_tools import apart, changes, make, quiet
from trainer.contract.tools import ConvertRequest
from trainer.export import kohya
from trainer.export.converting import convert
from trainer.export.kohya import kohya_tensors
from trainer.formats.clients.models import SDXL, model_of
from trainer.formats.clients.pipelines import rescaled, rescaled_once
from trainer.formats.clients.report import report
from trainer.formats.header import read_header
from trainer.formats.inspect import inspect
from trainer.formats.kohya import module_names
from trainer.protocols import Target

ODD = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
MEGABYTES = 1500  # filled up, one copy of the file has 21 000
WORK = """
import resource, sys
import torch
from trainer.contract.tools import ConvertRequest, MergeRequest, ResizeRequest, Weighted
from trainer.export.converting import convert
from trainer.export.resizing import merge, resize

torch.set_num_threads(1)
source, folder = sys.argv[1:]
def quiet(*_): pass
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, twice = used(), (Weighted(file=source), Weighted(file=source))
for to in ("kohya", "diffusers"):
    print(convert(ConvertRequest(file=source, to=to, out=f"{folder}/{to}.safetensors"), quiet).notices[-1])
print(merge(MergeRequest(adapters=twice, out=f"{folder}/sum.safetensors"), quiet).notices[-1])
print(resize(ResizeRequest(file=source, rank=4096, out=f"{folder}/same.safetensors"), quiet).notices[-1])
print(used() - before)
"""


def test_one_layer_of_rank_4096_does_not_make_gigabytes_of_all(tmp_path):
    layers = [layer for layer in model_of(SDXL).layers if layer.part == "unet" and "attn" in layer.path]
    layers = [layer for layer in layers if not layer.norm]
    paths = {part: [layer.path for layer in model_of(SDXL).layers if layer.part == part]
             for part in ("unet", "text_encoder", "text_encoder_2")}  # fmt: skip
    names, tensors = module_names(paths), {}
    for layer in layers:
        rank, stem = 4096 if layer.path == ODD else 1, names[layer.part, layer.path]
        tensors[f"{stem}.lora_down.weight"] = torch.full((rank, *layer.shape[1:]), 0.01, dtype=torch.float16)
        tensors[f"{stem}.lora_up.weight"] = torch.full((layer.shape[0], rank), 0.01, dtype=torch.float16)
    source = tmp_path / "a.safetensors"
    save_file(tensors, source, {"ss_base_model_version": "sdxl_base_v1-0"})
    command = [sys.executable, "-c", WORK, str(source), str(tmp_path)]
    *notices, used = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert int(used) < MEGABYTES, f"{used} MB for a file of {source.stat().st_size >> 20} MB"
    assert len(notices) == 4 and all("to 4096 were left so" in line or "to 8192 were" in line for line in notices)
    for name in ("kohya", "diffusers", "same"):
        assert (tmp_path / f"{name}.safetensors").stat().st_size < 1.1 * source.stat().st_size


@pytest.fixture
def uneven(tmp_path, tiny_sd, monkeypatch):
    """A file with one layer of rank 24 among those of rank 1, where such zeros count."""
    monkeypatch.setattr(kohya, "AMPLE", 0)
    source = make(tmp_path / "a.safetensors", tiny_sd, rank=1, keep=lambda path: "attn" in path and "norm" not in path)
    tensors, stem = load_file(source), f"lora_unet_{ODD.replace('.', '_')}"
    down, up = tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"]
    tensors[f"{stem}.lora_down.weight"] = torch.randn(24, down.shape[1])
    tensors[f"{stem}.lora_up.weight"] = torch.randn(up.shape[0], 24)
    save_file(tensors, source, read_header(source).metadata)  # an alpha of 1 for both
    return source


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_diffusers_scales_a_file_of_uneven_ranks_as_it_is_meant(tmp_path, tiny_sd, uneven, to):
    out = tmp_path / "out.safetensors"
    done = convert(ConvertRequest(file=str(uneven), to=to, out=str(out), base=str(tiny_sd)), quiet)
    assert done.ranks == (1, 24) and "ranks from 1 to 24 were left so" in done.notices[-1]
    wanted = changes(uneven, tiny_sd)
    assert max(apart(changes(out, tiny_sd), wanted)[0].values()) < 1e-6
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipe.load_lora_weights(str(out))
    plain, seen = {Target(one.part, one.path.removeprefix("text_model.")): wanted[one] for one in wanted}, 0
    for part in ("unet", "text_encoder"):
        for path, module in getattr(pipe, part).named_modules():
            if getattr(module, "lora_A", None):
                made = module.get_delta_weight("default_0").double().flatten(1)
                found = plain[Target(part, path.removeprefix("text_model."))]
                torch.testing.assert_close(made, found, rtol=1e-4, atol=1e-5)
                seen += 1
    assert seen == len(wanted) > 10
    if to == "kohya":
        assert inspect(out).alphas == (1.0,) and read_header(out).metadata["ss_network_alpha"] == "1"
        assert not any("wrong" in line for line in report(out).warnings()), report(out).warnings()
    else:
        told = json.loads(read_header(out).metadata["lora_adapter_metadata"])
        assert told["unet.rank_pattern"] == told["unet.alpha_pattern"] == {ODD: 24} and told["unet.r"] == 1


def test_an_export_of_uneven_ranks_is_right_for_most_layers_in_every_release(monkeypatch):
    monkeypatch.setattr(kohya, "AMPLE", 0)
    paths = [f"down_blocks.0.attentions.{block}.transformer_blocks.0.attn1.to_{name}" for block in range(5)
             for name in "qkv"]  # fmt: skip
    adapter = {
        Target("unet", path): {
            "lora_down.weight": torch.randn(rank, 8), "lora_up.weight": torch.randn(8, rank), "alpha": torch.tensor(2.0)
        }
        for path, rank in zip(paths, (2, 2, 64, 2, 64, *(2,) * 10), strict=True)
    }  # fmt: skip
    tensors = kohya_tensors(adapter, {"unet": [*paths, "down_blocks.0.resnets.0.conv1"]}, "fp32")
    names = module_names({"unet": paths})
    ranks = {stem: len(tensors[f"{stem}.lora_down.weight"]) for stem in names.values()}
    alphas = {stem: float(tensors[f"{stem}.alpha"]) for stem in names.values()}
    assert sorted(ranks.values()) == [*(2,) * 13, 64, 64] and set(alphas.values()) == {2.0}
    assert not rescaled(alphas) and rescaled_once(ranks, alphas) == [stem for stem in ranks if ranks[stem] == 64]
    for target, held in adapter.items():
        stem = names[target.part, target.path]
        made = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"] * (2 / ranks[stem])
        wanted = held["lora_up.weight"] @ held["lora_down.weight"] * (2 / len(held["lora_down.weight"]))
        torch.testing.assert_close(made, wanted)
