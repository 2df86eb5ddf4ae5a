"""Adapters built into a base: weights against weights, and pictures against those of the preview."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_checkpoints import tiny_checkpoint
from tests.trainer.export.test_tools import make, quiet
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest
from trainer.contract.requests import Picture as Shown
from trainer.contract.tools import MergeRequest, Weighted
from trainer.device import Engine
from trainer.export.baking import bake
from trainer.export.bases import base_layers
from trainer.export.opened import opened
from trainer.families.locate import find_source
from trainer.formats.header import read_header
from trainer.preview.engine import PreviewEngine

CPU = torch.device("cpu")


def into(base, out, *adapters):
    chosen = tuple(Weighted(file=str(file), strength=strength) for file, strength in adapters)
    return bake(MergeRequest(adapters=chosen, into=str(base), out=str(out)), quiet)


def picture(base, out, adapters=(), strengths=()):
    engine = PreviewEngine(ModelSection(base=str(base), dtype="fp32"), Engine(CPU, torch.float32, 1))
    request = GenerateRequest(
        id="x", base=str(base), adapters=tuple(map(str, adapters)), steps=2, size=(64, 64), out=str(out),
        pictures=(Shown(prompt="a cat", strengths=strengths),),
    )  # fmt: skip
    engine.use(request.adapters)
    return np.asarray(next(iter(engine.draw(request))).image, dtype=float)


@pytest.fixture(scope="module", params=["folder", "sd1", "sd2", "sdxl"])
def base(request, tmp_path_factory, tiny_sd):
    if request.param == "folder":
        return tiny_sd
    return tiny_checkpoint(request.param).write(tmp_path_factory.mktemp(request.param) / "base.safetensors")


def test_every_weight_is_the_base_s_and_what_the_adapters_add(tmp_path, base):
    one = make(tmp_path / "a.safetensors", base, alpha=2, keep=lambda path: True)
    other = make(tmp_path / "b.safetensors", base, rank=2, seed=1, keep=lambda path: "attn" in path)
    out = tmp_path / ("merged" if base.is_dir() else "merged.safetensors")
    done = into(base, out, (one, 0.5), (other, -0.3))
    layers, before, after = base_layers(str(base)), find_source(str(base)), find_source(str(out))
    changed = 0
    with opened(one, str(base)) as first, opened(other, str(base)) as second:
        stems = [{target: stem for stem, target in source.targets.items()} for source in (first, second)]
        for part in (*layers.paths, "vae"):
            old, new = (dict(source.model(part, torch.float32).named_parameters()) for source in (before, after))
            assert old.keys() == new.keys()
            for name, weight in old.items():
                wanted = weight.detach().clone()
                for source, names, strength in ((first, stems[0], 0.5), (second, stems[1], -0.3)):
                    if stem := names.get((part, name.removesuffix(".weight"))):
                        wanted += strength * source.whole(stem, CPU).view_as(wanted)
                changed += not torch.equal(wanted, weight)
                torch.testing.assert_close(new[name], wanted, rtol=1e-5, atol=1e-5)
    assert changed == done.changed == len(layers.linear)


def test_the_picture_is_the_preview_s(tmp_path, base):
    adapter = make(tmp_path / "a.safetensors", base, alpha=8, keep=lambda path: True)
    out = tmp_path / ("merged" if base.is_dir() else "merged.safetensors")
    into(base, out, (adapter, 0.4))
    if not base.is_dir():
        for folder in base.parent.glob("tokenizer*"):
            (tmp_path / folder.name).symlink_to(folder)
    plain, wanted = picture(base, tmp_path), picture(base, tmp_path, [adapter], (0.4,))
    merged = picture(out, tmp_path)
    assert np.abs(wanted - plain).mean() > 0.5, "the adapter does something"
    assert np.abs(merged - wanted).max() <= 1


def test_a_file_keeps_its_type_its_order_and_what_it_says(tmp_path):
    tiny = tiny_checkpoint("sd1")
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tiny.tensors.items()}
    tiny.tensors.clear()
    tiny.tensors.update(half)
    said = {"modelspec.title": "mine", "modelspec.hash_sha256": "0x1"}
    base = tiny.write(tmp_path / "base.safetensors", metadata=said)
    adapter = make(tmp_path / "a.safetensors", base, keep=lambda path: "to_q" in path)
    into(base, tmp_path / "merged.safetensors", (adapter, 1.0))
    old, new = read_header(base), read_header(tmp_path / "merged.safetensors")
    assert old.tensors == new.tensors and list(old.tensors) == list(new.tensors)
    assert new.metadata["modelspec.title"] == "mine" and new.metadata["modelspec.merged_from"] == "a:1"
    assert "modelspec.hash_sha256" not in new.metadata
    before, after = load_file(base), load_file(tmp_path / "merged.safetensors")
    apart = {name for name in before if not torch.equal(before[name], after[name])}
    assert apart and all(name.endswith("to_q.weight") for name in apart)


def test_what_cannot_be_built_in_is_said_and_leaves_nothing(tmp_path, tiny_sd, monkeypatch):
    adapter = make(tmp_path / "a.safetensors", tiny_sd)
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="nothing is overwritten"):
        into(tiny_sd, tmp_path / "there", (adapter, 1.0))
    xl = tiny_checkpoint("sdxl").write(tmp_path / "x" / "xl.safetensors")
    other = make(tmp_path / "b.safetensors", xl, ss_base_model_version="sdxl_base_v1-0")
    with pytest.raises(UserError, match="is for SDXL"):
        into(tiny_sd, tmp_path / "out", (other, 1.0))
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="GB are free"):
        into(tiny_sd, tmp_path / "out", (adapter, 1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "there", "x"]


def test_other_copies_of_the_weights_do_not_go_with_it(tmp_path, tiny_sd):
    base = tmp_path / "base"
    shutil.copytree(tiny_sd, base)
    (base / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"old")
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"old")
    adapter = make(tmp_path / "a.safetensors", base)
    done = into(base, tmp_path / "merged", (adapter, 1.0))
    assert sorted(path.name for path in (tmp_path / "merged" / "unet").iterdir()) == [
        "config.json", "diffusion_pytorch_model.safetensors"
    ]  # fmt: skip
    assert "diffusion_pytorch_model.bin" in done.notices[0]
