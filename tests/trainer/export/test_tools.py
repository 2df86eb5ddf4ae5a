"""Resize, merge, convert and analyse, on files of tiny models: they are read back and compared."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from tests.tiny_sdxl import make_tiny_sdxl
from trainer.adapters.read import read_adapter
from trainer.contract.errors import UserError
from trainer.contract.tools import AnalyzeRequest, ConvertRequest, MergeRequest, ResizeRequest, Weighted
from trainer.export.analysis import analyze
from trainer.export.bases import base_layers
from trainer.export.converting import convert
from trainer.export.resizing import merge, resize
from trainer.families.parts import hollow
from trainer.formats.header import body_sha256, read_header
from trainer.formats.inspect import inspect
from trainer.formats.kohya import module_names


def quiet(what, done, total):
    pass


@pytest.fixture(scope="module")
def tiny_sdxl(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("base") / "sdxl")


def make(path, base, rank=4, seed=0, alpha=None, dtype=torch.float32, keep=lambda path: "attn" in path, **metadata):
    """An adapter with kohya's names, its singular values falling by half."""
    layers, generator, tensors = base_layers(str(base)), torch.Generator().manual_seed(seed), {}
    names = module_names(layers.paths)
    for module, (outputs, *inner) in layers.linear.items():
        if keep(module[1]):
            fall = 0.5 ** torch.arange(rank).view(-1, *[1] * len(inner))
            stem = names[module]
            tensors[f"{stem}.lora_down.weight"] = (torch.randn(rank, *inner, generator=generator) * fall).to(dtype)
            up = torch.randn(outputs, rank, *[1] * (len(inner) - 1), generator=generator)
            tensors[f"{stem}.lora_up.weight"] = up.to(dtype)
            tensors[f"{stem}.alpha"] = torch.tensor(float(alpha or rank), dtype=dtype)
    save_file(tensors, path, {"modelspec.sai_model_spec": "1.0.1", "ss_output_name": path.stem, **metadata})
    return path


def changes(path, base):
    """Layer -> the matrix that a file adds to it, by the reader that previews use."""
    layers = base_layers(str(base))
    parts = {part: hollow(part, layers.source.config(part)) for part in layers.paths}
    read = read_adapter(path, parts)
    assert not read.unmatched
    return {target: one.up.double().flatten(1) @ one.down.double().flatten(1) for target, one in read.updates.items()}


def apart(found, wanted):
    assert found.keys() == wanted.keys()
    errors = {name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}
    whole = sum(float((found[name] - wanted[name]).norm() ** 2) for name in wanted)
    return errors, (whole / sum(float(one.norm() ** 2) for one in wanted.values())) ** 0.5


@pytest.mark.parametrize(("dtype", "most"), [("fp32", 1e-6), ("fp16", 1e-3)])
@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.7, -0.4)], ids=str)
def test_a_merge_side_by_side_is_exact(tmp_path, tiny_sdxl, dtype, most, strengths):
    files = [
        make(tmp_path / "a.safetensors", tiny_sdxl, alpha=2, **{"modelspec.trigger_phrase": "ohwx"}),
        make(tmp_path / "b.safetensors", tiny_sdxl, rank=3, seed=1, keep=lambda path: "attn1" in path or "fc1" in path,
             **{"modelspec.trigger_phrase": "sks dog"}),
    ]  # fmt: skip
    out = tmp_path / "sum.safetensors"
    adapters = tuple(Weighted(file=str(file), strength=one) for file, one in zip(files, strengths, strict=True))
    done = merge(MergeRequest(adapters=adapters, out=str(out), dtype=dtype, base=str(tiny_sdxl)), quiet)
    one, other = (changes(file, tiny_sdxl) for file in files)
    wanted = {
        name: strengths[0] * one.get(name, 0.0) + strengths[1] * other.get(name, 0.0)
        for name in one.keys() | other.keys()
    }
    errors, overall = apart(changes(out, tiny_sdxl), wanted)
    assert max(errors.values()) <= most and done.largest_error <= most
    assert done.error == pytest.approx(overall, rel=1e-2, abs=1e-7)
    assert done.ranks == (3, 7), "attention has one rank, filled up with zeros; fc1 its own"
    metadata, facts = read_header(out).metadata, inspect(out)
    assert facts.hash_is_true and facts.triggers == ("ohwx, sks dog",)
    assert metadata["ss_network_dim"] == "7" and facts.alphas == (7.0,)
    assert facts.ranks == (3, 4, 7)
    sources = json.loads(metadata["lora_atelier.sources"])
    assert [(one["name"], one["strength"]) for one in sources] == [("a", strengths[0]), ("b", strengths[1])]
    assert [one["hash"] for one in sources] == [body_sha256(file) for file in files]


@pytest.mark.parametrize("options", [{"rank": 2}, {"energy": 0.9}], ids=str)
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_resized_file_is_as_far_off_as_is_said(tmp_path, tiny_sdxl, options, dtype):
    source = make(tmp_path / "a.safetensors", tiny_sdxl, rank=6, **{"lora_atelier.recipe": "adapter.rank = 6"})
    out = tmp_path / "small.safetensors"
    request = ResizeRequest(file=str(source), out=str(out), dtype=dtype, base=str(tiny_sdxl), **options)
    done = resize(request, quiet)
    before = changes(source, tiny_sdxl)
    errors, overall = apart(changes(out, tiny_sdxl), before)
    assert done.error == pytest.approx(overall, rel=1e-3) and done.largest_error == pytest.approx(max(errors.values()))
    assert sorted(one.error for one in done.layers) == pytest.approx(sorted(errors.values()), rel=1e-3)
    for name, matrix in before.items():
        values = torch.linalg.svdvals(matrix).square()
        if "rank" in options:
            assert errors[name] == pytest.approx(float(values[2:].sum() / values.sum()) ** 0.5, rel=1e-2)
        else:
            assert errors[name] ** 2 <= 0.1 + 1e-4
    assert done.ranks[1] <= 3 and "recipe" not in str(read_header(out).metadata)
    assert read_header(out).metadata["ss_network_dim"] == str(done.ranks[1])


def test_a_merge_by_svd_says_its_error(tmp_path, tiny_sdxl):
    files = [make(tmp_path / f"{seed}.safetensors", tiny_sdxl, seed=seed) for seed in range(2)]
    adapters, out = tuple(Weighted(file=str(file)) for file in files), tmp_path / "sum.safetensors"
    done = merge(MergeRequest(adapters=adapters, out=str(out), rank=3, base=str(tiny_sdxl)), quiet)
    one, other = (changes(file, tiny_sdxl) for file in files)
    _, overall = apart(changes(out, tiny_sdxl), {name: one[name] + other[name] for name in one})
    assert 0.05 < done.error == pytest.approx(overall, rel=1e-3) and done.ranks == (3, 3)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_names_go_to_diffusers_and_back(tmp_path, tiny_sd, tiny_sdxl, family, dtype):
    base = {"sd": tiny_sd, "sdxl": tiny_sdxl}[family]
    source = make(tmp_path / "a.safetensors", base, rank=3, alpha=1.5, keep=lambda path: "conv_in" not in path)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    convert(ConvertRequest(file=str(source), to="diffusers", out=str(there), dtype=dtype, base=str(base)), quiet)
    convert(ConvertRequest(file=str(there), to="kohya", out=str(back), dtype=dtype, base=str(base)), quiet)
    most = 1e-6 if dtype == "fp32" else 1e-3
    wanted = changes(source, base)
    assert max(apart(changes(there, base), wanted)[0].values()) <= most
    assert max(apart(changes(back, base), wanted)[0].values()) <= most
    assert inspect(there).format == "diffusers" and inspect(back).format == "kohya" and inspect(back).hash_is_true
    assert {name.rpartition(".lora")[0] for name in load_file(back) if ".lora" in name} == {
        name.rpartition(".lora")[0] for name in load_file(source) if ".lora" in name
    }


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_diffusers_loads_every_tensor_of_a_converted_file(tmp_path, tiny_sd, tiny_sdxl, family):
    base, kind = {"sd": (tiny_sd, StableDiffusionPipeline), "sdxl": (tiny_sdxl, StableDiffusionXLPipeline)}[family]
    parts = {"unet": "attn", "text_encoder": "_proj", "text_encoder_2": "_proj"}
    source = make(tmp_path / "a.safetensors", base, rank=3, keep=lambda path: "attn" in path and "norm" not in path)
    small, there = tmp_path / "small.safetensors", tmp_path / "there.safetensors"
    resize(ResizeRequest(file=str(source), energy=0.95, out=str(small), base=str(base)), quiet)
    convert(ConvertRequest(file=str(small), to="diffusers", out=str(there), base=str(base)), quiet)
    pipe = kind.from_pretrained(base, safety_checker=None) if family == "sd" else kind.from_pretrained(base)
    pipe.load_lora_weights(str(there))
    wanted = {
        (target.part, target.path.removeprefix("text_model.")): one for target, one in changes(small, base).items()
    }
    seen = 0
    for part in parts:
        for path, module in getattr(pipe, part).named_modules() if hasattr(pipe, part) else ():
            if hasattr(module, "lora_A") and module.lora_A:
                made = module.get_delta_weight("default_0").double().flatten(1)
                torch.testing.assert_close(made, wanted[part, path.removeprefix("text_model.")], rtol=1e-4, atol=1e-5)
                seen += 1
    assert seen == len(wanted) > 10


def test_numbers_that_fp16_would_lose_are_balanced_between_both_matrices(tmp_path, tiny_sdxl):
    source = make(tmp_path / "a.safetensors", tiny_sdxl)
    tensors = {name: one * (1e-7 if "up" in name else 1e3 if "down" in name else 1)
               for name, one in load_file(source).items()}  # fmt: skip
    save_file(tensors, source)
    out = tmp_path / "out.safetensors"
    done = convert(ConvertRequest(file=str(source), to="kohya", dtype="fp16", out=str(out), base=str(tiny_sdxl)), quiet)
    assert done.largest_error < 1e-3
    assert max(apart(changes(out, tiny_sdxl), changes(source, tiny_sdxl))[0].values()) < 1e-3


def test_an_analysis_tells_the_rank_that_is_used(tmp_path, tiny_sdxl):
    source = make(tmp_path / "a.safetensors", tiny_sdxl, rank=16)
    found = analyze(AnalyzeRequest(file=str(source), base=str(tiny_sdxl)), quiet)
    before = changes(source, tiny_sdxl)
    values = [torch.linalg.svdvals(one).square() for one in before.values()]
    total = sum(float(one.sum()) for one in values)
    for rank in (1, 2, 5):
        assert found.kept[rank - 1] == pytest.approx(sum(float(one[:rank].sum()) for one in values) / total, rel=1e-4)
    assert found.kept[found.needed["0.95"] - 1] >= 0.95 > found.kept[found.needed["0.95"] - 2]
    assert found.advice[0] == f"This rank 16 holds 95% of its energy in rank {found.needed['0.95']}."
    assert "adapter.rank=4" in found.advice[1] and sum(found.parts.values()) == pytest.approx(1)
    assert len(found.layers) == len(before) and found.layers[0].norm == max(layer.norm for layer in found.layers)


def test_what_is_not_understood_is_left_out_whole_and_named(tmp_path, tiny_sdxl):
    source = make(tmp_path / "a.safetensors", tiny_sdxl)
    tensors = load_file(source)
    stem = next(iter(tensors)).partition(".")[0]
    tensors |= {f"{stem}.lora_mid.weight": torch.ones(4, 4, 3, 3), "bundle_emb.word.clip_l": torch.ones(2, 2)}
    save_file(tensors, source)
    out = tmp_path / "small.safetensors"
    done = resize(ResizeRequest(file=str(source), rank=1, out=str(out), base=str(tiny_sdxl)), quiet)
    assert not any(name.startswith((stem + ".", "bundle_emb")) for name in load_file(out))
    assert "bundle_emb.word.clip_l" in done.notices[0] and stem in done.notices[0]


def test_what_cannot_be_done_is_said(tmp_path, tiny_sd, tiny_sdxl):
    one = make(tmp_path / "a.safetensors", tiny_sdxl, ss_base_model_version="sdxl_base_v1-0")
    other = make(tmp_path / "b.safetensors", tiny_sd, ss_base_model_version="sd_v1")
    out = str(tmp_path / "out.safetensors")
    two = (Weighted(file=str(one)), Weighted(file=str(other)))
    with pytest.raises(UserError, match="different kinds of base"):
        merge(MergeRequest(adapters=two, out=out), quiet)
    with pytest.raises(UserError, match="nothing is overwritten"):
        resize(ResizeRequest(file=str(one), rank=1, out=str(other)), quiet)
    with pytest.raises(UserError, match="cannot hold"):
        large = make(tmp_path / "c.safetensors", tiny_sdxl, alpha=1e12)
        strong = Weighted(file=str(large), strength=20.0)
        merge(MergeRequest(adapters=(strong,), out=out, dtype="fp16", base=str(tiny_sdxl)), quiet)
    tensors = load_file(one)
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, one)
    with pytest.raises(UserError, match="not finite"):
        resize(ResizeRequest(file=str(one), rank=1, out=out, base=str(tiny_sdxl)), quiet)
    assert not (tmp_path / "out.safetensors").exists()
