"""The tools and every kind of file that the reader knows: what they make of one is what the preview draws with it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.export.test_tools import quiet
from trainer.adapters.foreign import change_of
from trainer.adapters.read import read_adapter
from trainer.contract.errors import UserError
from trainer.contract.tools import AnalyzeRequest, ConvertRequest, MergeRequest, ResizeRequest, Weighted
from trainer.export.analysis import analyze
from trainer.export.baking import bake
from trainer.export.bases import base_layers
from trainer.export.converting import convert
from trainer.export.resizing import merge, resize
from trainer.families.locate import find_source
from trainer.formats.inspect import inspect

LINEAR = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"  # 16 x 16 in the tiny base
OUTPUT = LINEAR.replace("to_q", "to_out_0")  # the one of attention that has a bias
DOTTED = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SPATIAL = "lora_unet_down_blocks_0_resnets_0_conv1"  # 16 x 16 x 3 x 3
NORM = "lora_unet_down_blocks_0_resnets_0_norm1"


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.1


def lora(stem, rank=3, down="lora_down.weight", up="lora_up.weight"):
    return {f"{stem}.{down}": drawn(rank, 16), f"{stem}.{up}": drawn(16, rank)}


TUCKER = {
    f"{SPATIAL}.lora_down.weight": drawn(3, 16, 1, 1),
    f"{SPATIAL}.lora_mid.weight": drawn(3, 3, 3, 3),
    f"{SPATIAL}.lora_up.weight": drawn(16, 3, 1, 1),
    f"{SPATIAL}.alpha": torch.tensor(1.5),
}
NORMS = {f"{NORM}.w_norm": drawn(16), f"{NORM}.b_norm": drawn(16), f"{SPATIAL}.diff_b": drawn(16)}
SIDES = {"a": (16, 2), "b": (2, 16)}
FILES = {
    "Tucker": TUCKER,
    "PEFT DoRA": lora(DOTTED, down="lora_A.weight", up="lora_B.weight")
    | {f"{DOTTED}.lora_magnitude_vector": drawn(16).abs() + 1},
    "DoRA of columns": lora(LINEAR) | {f"{LINEAR}.dora_scale": drawn(1, 16).abs() + 1},
    "PEFT bias": lora(DOTTED, down="lora_A.weight", up="lora_B.weight")
    | lora(DOTTED.replace("to_q", "to_out.0"), down="lora_A.weight", up="lora_B.weight")
    | {f"{DOTTED.replace('to_q', 'to_out.0')}.lora_B.bias": drawn(16)},
    "norms and biases": lora(LINEAR) | NORMS,
    "LoHa": {f"{LINEAR}.hada_w{n}_{side}": drawn(*SIDES[side]) for n in (1, 2) for side in "ab"},
    "OFT": {f"{LINEAR}.oft_blocks": drawn(4, 4, 4)},
    "PEFT OFT": {f"{DOTTED}.oft_R.weight": drawn(4, 6)},
    "GLoRA": {f"{LINEAR}.{letter}{n}.weight": drawn(*SIDES["a" if n == 1 else "b"]) for n in (1, 2) for letter in "ab"},
    "IA3": {f"{LINEAR}.weight": drawn(16), f"{LINEAR}.on_input": torch.tensor(True)},
    "full difference": {f"{OUTPUT}.diff": drawn(16, 16), f"{OUTPUT}.diff_b": drawn(16)},
}  # fmt: skip
PLAIN = ("Tucker", "PEFT bias", "norms and biases")  # two small matrices, and what is no matrix


@pytest.fixture(scope="module")
def parts(tiny_sd):
    source = find_source(str(tiny_sd))
    return {part: source.model(part, torch.float32) for part in ("unet", "text_encoder")}


def written(tmp_path, kind, name="source.safetensors"):
    save_file(FILES[kind], tmp_path / name)
    return tmp_path / name


def effect(path, parts):
    """(layer, tensor of it) -> what the reader of previews adds to it."""
    read = read_adapter(path, parts)
    assert not read.unmatched
    found = {}
    for target, update in read.updates.items():
        found[target, "weight"] = torch.einsum("or,r...->o...", update.up.double().flatten(1), update.down.double())
    for target, shift in read.shifts.items():
        for what in ("weight", "bias"):
            if (tensor := getattr(shift, what)) is not None:
                found[target, what] = tensor.double()
    return {name: tensor.flatten() for name, tensor in found.items()}


def same(found, wanted, most):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert float((found[name] - tensor).norm() / tensor.norm()) <= most, name


@pytest.mark.parametrize("kind", FILES)
def test_a_base_with_it_merged_in_has_the_weights_of_the_preview(tmp_path, tiny_sd, parts, kind):
    file = written(tmp_path, kind)
    bake(MergeRequest(adapters=(Weighted(file=str(file)),), into=str(tiny_sd), out=str(tmp_path / "merged")), quiet)
    after, wanted, changed = find_source(str(tmp_path / "merged")), effect(file, parts), 0
    for part, before in parts.items():
        new = dict(after.model(part, torch.float32).named_parameters())
        for name, old in before.named_parameters():
            path, _, what = name.rpartition(".")
            added = next((one for (target, which), one in wanted.items()
                          if (target.part, target.path, which) == (part, path, what)), None)  # fmt: skip
            if added is None:
                assert torch.equal(new[name], old), name
            else:
                changed += 1
                torch.testing.assert_close(new[name], old + added.view_as(old).float(), rtol=1e-5, atol=1e-6)
    assert changed == len(wanted) >= 1


@pytest.mark.parametrize("kind", FILES)
def test_resized_and_converted_it_adds_the_same(tmp_path, tiny_sd, parts, kind):
    file, out = written(tmp_path, kind), str(tmp_path / "{}.safetensors")
    wanted = effect(file, parts)
    done = resize(
        ResizeRequest(file=str(file), rank=16, out=out.format("resized"), base=str(tiny_sd), dtype="fp32"), quiet
    )
    same(effect(tmp_path / "resized.safetensors", parts), wanted, 1e-5)
    assert done.largest_error < 1e-5
    convert(ConvertRequest(file=str(file), to="lora", rank=16, out=out.format("lora"), base=str(tiny_sd)), quiet)
    weights = {name: tensor for name, tensor in wanted.items() if "norm" not in name[0].path and name[1] == "weight"}
    same(effect(tmp_path / "lora.safetensors", parts), weights, 1e-5)
    request = ConvertRequest(file=str(file), to="kohya", out=out.format("kohya"), base=str(tiny_sd))
    if kind == "PEFT OFT":
        with pytest.raises(UserError, match="turns inputs"):
            convert(request, quiet)
        return
    convert(request, quiet)
    same(effect(tmp_path / "kohya.safetensors", parts), wanted, 1e-5)
    facts = inspect(tmp_path / "kohya.safetensors")
    assert facts.format == "kohya" and facts.hash_is_true
    assert not any("mid" in name for name in load_file(tmp_path / "kohya.safetensors") if kind == "Tucker")


@pytest.mark.parametrize("kind", FILES)
def test_a_merge_is_the_sum_of_both(tmp_path, tiny_sd, parts, kind):
    files = written(tmp_path, kind), written(tmp_path, "norms and biases", "other.safetensors")
    adapters = tuple(Weighted(file=str(file), strength=one) for file, one in zip(files, (0.5, -2.0), strict=True))
    out, rank = tmp_path / "sum.safetensors", None if kind in PLAIN else 16
    merge(
        MergeRequest(adapters=adapters, rank=rank, out=str(out), dtype="fp32", base=str(tiny_sd)), quiet
    )  # side by side where both are plain
    one, other = (effect(file, parts) for file in files)
    same(
        effect(out, parts), {name: 0.5 * one.get(name, 0.0) - 2.0 * other.get(name, 0.0) for name in one | other}, 1e-5
    )


def test_an_analysis_of_each_kind_measures_the_reader_s_change(tmp_path, tiny_sd, parts):
    for kind in FILES:
        file = written(tmp_path, kind)
        found = analyze(AnalyzeRequest(file=str(file), base=str(tiny_sd)), quiet)
        norms = [float(one.norm()) for (target, what), one in effect(file, parts).items()
                 if what == "weight" and "norm" not in target.path]  # fmt: skip
        assert sorted(layer.norm for layer in found.layers) == pytest.approx(sorted(norms), rel=1e-4)


def test_a_bias_that_the_base_does_not_have_is_named(tmp_path, tiny_sd):
    file = tmp_path / "a.safetensors"
    save_file({f"{LINEAR}.diff": drawn(16, 16), f"{LINEAR}.diff_b": drawn(16)}, file)
    done = bake(
        MergeRequest(adapters=(Weighted(file=str(file)),), into=str(tiny_sd), out=str(tmp_path / "merged")), quiet
    )
    assert "no bias of this base" in done.notices[-1] and "attn1.to_q" in done.notices[-1]


def test_a_file_of_norms_alone_goes_into_a_base_only(tmp_path):
    save_file({name: tensor for name, tensor in NORMS.items() if "norm" in name}, tmp_path / "norms.safetensors")
    with pytest.raises(UserError, match="biases and norms only"):
        resize(ResizeRequest(file=str(tmp_path / "norms.safetensors"), rank=1, out=str(tmp_path / "x.st")), quiet)


@pytest.mark.parametrize("base", ["", "given"])
def test_an_alpha_that_only_a_config_tells_counts(tmp_path, tiny_sd, parts, base):
    folder = tmp_path / "peft"
    folder.mkdir()
    file = folder / "adapter_model.safetensors"
    save_file(lora(DOTTED.removeprefix("unet."), down="lora_A.weight", up="lora_B.weight"), file)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 12}))
    out = tmp_path / "out.safetensors"
    resize(ResizeRequest(file=str(file), rank=8, out=str(out), base=str(tiny_sd) if base else "", dtype="fp32"), quiet)
    same(effect(out, parts), effect(file, parts), 1e-6)


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_an_oft_without_alpha_has_no_bound(alpha):
    """As LyCORIS, whose own files have an alpha of 0, and A1111 and ComfyUI for want of one."""
    held, weight = {"oft_blocks": drawn(4, 4, 4) * 50}, drawn(16, 16)
    told = held if alpha is None else {**held, "alpha": torch.tensor(alpha)}
    skew = held["oft_blocks"] - held["oft_blocks"].mT
    one = torch.eye(4)
    turn = (one + skew) @ torch.linalg.inv(one - skew)
    wanted = torch.einsum("knm,kno->kmo", turn - one, weight.view(4, 4, 16)).reshape(16, 16)
    torch.testing.assert_close(change_of(told, weight), wanted, rtol=1e-4, atol=1e-5)
    assert float((change_of({**held, "alpha": torch.tensor(1e-3)}, weight) - wanted).norm()) > 0.1


def test_norms_and_biases_have_a_place_in_single_files_too(tmp_path):
    from tests.tiny_checkpoints import tiny_checkpoint  # noqa: PLC0415

    for family in ("sd1", "sd2", "sdxl"):
        base = tiny_checkpoint(family).write(tmp_path / family / "base.safetensors")
        layers = base_layers(str(base))
        assert not layers.norms.keys() - layers.places.keys()
        names = load_file(base)
        biased = {module for module in layers.norms if layers.places[module].bias in names}
        assert biased == set(layers.norms)
