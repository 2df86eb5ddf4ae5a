"""One set of updates, written by hand in every form that trainers have used, is read back as the same updates."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.tiny_sdxl import make_tiny_sdxl
from trainer.adapters.read import read_adapter
from trainer.adapters.tensors import read_tensors
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import Picture
from trainer.device import Engine
from trainer.families.blocks import lean
from trainer.families.locate import load_family
from trainer.formats.clients.report import report
from trainer.formats.header import MAX_HEADER_BYTES, MAX_TENSORS, open_tensors
from trainer.formats.inspect import inspect
from trainer.formats.kinds import KINDS
from trainer.kernels.reference import REFERENCE
from trainer.preview.engine import PreviewEngine

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
RANK, ALPHA = 4, 3.0
BOUND = {torch.float32: 1e-6, torch.float16: 1e-3}
# Layers by (part, path), and as each form of name has them; SGM's blocks are those of the tiny models.
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SD1 = {
    ("unet", Q): "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    ("unet", "down_blocks.0.resnets.0.conv1"): "input_blocks.1.0.in_layers.2",
    ("unet", "mid_block.attentions.0.proj_in"): "middle_block.1.proj_in",
    ("text_encoder", "encoder.layers.1.mlp.fc1"): "",
    ("text_encoder", "encoder.layers.0.self_attn.out_proj"): "",
}
SDXL = {
    ("unet", Q.replace("down_blocks.0", "down_blocks.1")): "input_blocks.3.1.transformer_blocks.0.attn1.to_q",
    ("unet", "down_blocks.0.resnets.0.conv1"): "input_blocks.1.0.in_layers.2",
    ("unet", "mid_block.attentions.0.proj_in"): "middle_block.1.proj_in",
    ("text_encoder", "encoder.layers.1.mlp.fc1"): "",
    ("text_encoder_2", "encoder.layers.0.self_attn.out_proj"): "",
}
KOHYA = ("lora_down.weight", "lora_up.weight")
PEFT = ("lora_A.weight", "lora_B.weight")


def flat(text: str) -> str:
    return text.replace(".", "_")


def kohya(part: str, path: str, _: str, sdxl: bool) -> str:
    before = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if sdxl else "lora_te_", "text_encoder_2": "lora_te2_"}
    return before[part] + flat(path if part == "unet" else f"text_model.{path}")


def sgm(part: str, path: str, name: str, sdxl: bool) -> str:
    return f"lora_unet_{flat(name)}" if name else kohya(part, path, name, sdxl)


def diffusers(part: str, path: str, _: str, __: bool) -> str:
    return f"{part}.{path}" if part == "unet" else f"{part}.text_model.{path}"


def peft_by_part(part: str, path: str, _: str, __: bool) -> str:
    return f"{part}.base_model.model.{path}" if part == "unet" else f"{part}.base_model.model.text_model.{path}"


def comfy(part: str, path: str, name: str, _: bool) -> str:
    encoder = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}.get(part)
    return f"diffusion_model.{name}" if name else f"text_encoders.{encoder}.transformer.text_model.{path}"


def lycoris(part: str, path: str, _: str, __: bool) -> str:
    before = {"unet": "lycoris_", "text_encoder": "lycoris_text_model_", "text_encoder_2": "lora_te2_text_model_"}
    return before[part] + flat(path)


def stability(part: str, path: str, name: str, sdxl: bool) -> str:
    if name:
        return f"model.diffusion_model.{name}"
    return kohya(part, path, name, sdxl) if sdxl else f"cond_stage_model.transformer.text_model.{path}"


OLD = "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"
FORMS = {
    "kohya": (kohya, KOHYA, "alpha"),
    "kohya, SGM": (sgm, KOHYA, "alpha"),
    "kohya, A and B": (kohya, PEFT, "alpha"),
    "LyCORIS": (lycoris, KOHYA, "alpha"),
    "diffusers": (diffusers, PEFT, "config"),
    "diffusers, A and B bare": (diffusers, ("lora_A", "lora_B"), "alpha"),
    "diffusers 0.21": (diffusers, ("lora.down.weight", "lora.up.weight"), "lora.alpha"),
    "diffusers 0.21, text": (diffusers, OLD, "alpha"),
    "PEFT": (peft_by_part, PEFT, "config"),
    "PEFT in memory": (peft_by_part, ("lora_A.default.weight", "lora_B.default.weight"), "config"),
    "ComfyUI": (comfy, PEFT, "alpha"),
    "Stability": (stability, KOHYA, "alpha"),
}


@pytest.fixture(scope="module")
def models(tiny_sd, tmp_path_factory):
    folders = {"sd1": tiny_sd, "sdxl": make_tiny_sdxl(tmp_path_factory.mktemp("base") / "sdxl")}
    return {name: load_family(ModelSection(base=str(folder)), ENGINE).parts for name, folder in folders.items()}


def drawn(parts: dict[str, nn.Module], layers) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Down and up in the dimensions of each layer."""
    torch.manual_seed(5)
    found = {}
    for part, path in layers:
        weight = parts[part].get_submodule(path).weight
        up = torch.randn(weight.shape[0], RANK, *[1] * (weight.dim() - 2))
        found[part, path] = torch.randn(RANK, *weight.shape[1:]), up
    return found


def changes(found) -> dict[tuple[str, str], Tensor]:
    return {(t.part, t.path): u.up.flatten(1).double() @ u.down.flatten(1).double() for t, u in found.updates.items()}


def compare(found, halves, dtype, scale: float = ALPHA / RANK) -> None:
    read = changes(found)
    assert read.keys() == halves.keys() and not found.unmatched and found.fit.whole
    for place, (down, up) in halves.items():
        wanted = up.flatten(1).double() @ down.flatten(1).double() * scale
        assert (read[place] - wanted).norm() <= BOUND[dtype] * wanted.norm()


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip(form, family, dtype, models, tmp_path):
    name, (down_name, up_name), alpha = FORMS[form]
    layers = SD1 if family == "sd1" else SDXL
    halves, tensors, metadata = drawn(models[family], layers), {}, {}
    for (part, path), (down, up) in halves.items():
        stem = name(part, path, layers[part, path], family == "sdxl")
        tensors |= {f"{stem}.{down_name}": down.to(dtype), f"{stem}.{up_name}": up.to(dtype)}
        if alpha == "config":
            metadata |= {f"{part}.r": RANK, f"{part}.lora_alpha": ALPHA}
        else:
            tensors[f"{stem}.{alpha}"] = torch.tensor(ALPHA, dtype=dtype)
    said = {"lora_adapter_metadata": json.dumps(metadata)} if metadata else None
    save_file(tensors, tmp_path / "a.safetensors", said)
    compare(read_adapter(tmp_path / "a.safetensors", models[family]), halves, dtype)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_the_oldest_form_of_diffusers(models, dtype, tmp_path):
    layers = [("unet", Q), ("unet", Q.replace("to_q", "to_out.0"))]
    halves = drawn(models["sd1"], layers)
    stem, tensors = Q.replace("to_q", "processor.to"), {}
    for (_, path), (down, up) in halves.items():
        own = f"{stem}_{'out' if 'out' in path else 'q'}_lora"
        tensors |= {f"{own}.down.weight": down.to(dtype), f"{own}.up.weight": up.to(dtype)}
        tensors[f"{own}.alpha"] = torch.tensor(ALPHA, dtype=dtype)
    save_file(tensors, tmp_path / "a.safetensors")
    compare(read_adapter(tmp_path / "a.safetensors", models["sd1"]), halves, dtype)
    del tensors[f"{stem}_q_lora.alpha"], tensors[f"{stem}_out_lora.alpha"]
    save_file(tensors, tmp_path / "a.safetensors")
    compare(read_adapter(tmp_path / "a.safetensors", models["sd1"]), halves, dtype, scale=1.0)


def test_a_matrix_for_a_convolution_of_one_pixel_and_the_other_way(models, tmp_path):
    layers = [("unet", "mid_block.attentions.0.proj_in"), ("text_encoder", "encoder.layers.1.mlp.fc1")]
    halves, tensors = drawn(models["sd1"], layers), {}
    for (part, path), (down, up) in halves.items():
        stem = kohya(part, path, "", False)
        other = (lambda t: t.flatten(1)) if part == "unet" else (lambda t: t[..., None, None])
        tensors |= {f"{stem}.lora_down.weight": other(down), f"{stem}.lora_up.weight": other(up)}
        tensors[f"{stem}.alpha"] = torch.tensor([ALPHA])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    compare(read_adapter(tmp_path / "a.safetensors", models["sd1"]), halves, torch.float32)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_whole_differences_and_rotations(models, dtype, tmp_path):
    """`diff` and `diff_b` as LyCORIS and ComfyUI write them; `oft_diag` of early LyCORIS; kohya's own prefix of OFT."""
    unet, q = models["sd1"]["unet"], f"lora_unet_{flat(Q)}"
    out = Q.replace("to_q", "to_out.0")
    torch.manual_seed(1)
    weight = unet.get_submodule(Q).weight
    diff, bias = torch.randn_like(weight), torch.randn(len(weight))
    turn = torch.linalg.qr(torch.randn(4, 4, 4))[0]
    held = {f"{q}.diff": diff, f"lora_unet_{flat(out)}.diff": diff, f"lora_unet_{flat(out)}.diff_b": bias}
    held |= {f"lora_unet_{flat(Q.replace('to_q', 'to_v'))}.oft_diag": turn}
    skew = torch.randn(4, 4, 4)
    held |= {f"oft_unet_{flat(Q.replace('to_q', 'to_k'))}.oft_blocks": skew}
    held |= {f"oft_unet_{flat(Q.replace('to_q', 'to_k'))}.alpha": torch.tensor(100.0)}
    held = {name: tensor.to(dtype).contiguous().clone() for name, tensor in held.items()}
    save_file(held, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors", models["sd1"])
    read = {path.rpartition("attn1.")[2]: change for (_, path), change in changes(found).items()}
    old = unet.get_submodule(Q.replace("to_q", "to_v")).weight.unflatten(0, (4, 4))
    kohyas = unet.get_submodule(Q.replace("to_q", "to_k")).weight.unflatten(0, (4, 4))
    q_ = (skew - skew.mT).double()
    cayley = (torch.eye(4) + q_) @ torch.linalg.inv(torch.eye(4) - q_)
    wanted = {
        "to_q": diff,
        "to_out.0": diff,
        "to_v": (torch.einsum("knm,kni->kmi", turn, old) - old).flatten(0, 1),
        "to_k": (torch.einsum("knm,kni->kmi", cayley, kohyas.double()) - kohyas).flatten(0, 1),
    }
    assert read.keys() == wanted.keys()
    for name, change in wanted.items():
        assert (read[name] - change).norm() <= 3 * BOUND[dtype] * change.norm(), name
    ((target, shift),) = found.shifts.items()
    assert target.path == out and torch.allclose(shift.bias, bias, rtol=BOUND[dtype]) and shift.weight is None


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_norms_and_biases_are_drawn_as_if_they_were_the_base_s(fused, tiny_sd, models, tmp_path):
    """A picture with w_norm, b_norm and diff_b at strength 1 is that of a base with these added; at 0 the base's."""
    torch.manual_seed(2)
    block = "down_blocks.0.attentions.0"
    norms = {"unet": [f"{block}.transformer_blocks.0.norm{n}" for n in (1, 2, 3)]}
    norms["unet"] += [f"{block}.norm", "down_blocks.0.resnets.0.norm1", "mid_block.resnets.0.norm2", "conv_norm_out"]
    norms["text_encoder"] = ["encoder.layers.0.layer_norm1", "final_layer_norm"]
    biases = ["down_blocks.0.resnets.0.conv1", f"{block}.proj_in", f"{block}.transformer_blocks.0.ff.net.2"]
    engine = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    tensors, parts = {}, engine.family.parts
    if fused:
        lean(parts["unet"], REFERENCE)
    for part, paths in norms.items():
        for path in paths:
            size = parts[part].get_submodule(path).weight.shape
            tensors |= {f"{kohya(part, path, '', False)}.{n}": 0.3 * torch.randn(size) for n in ("w_norm", "b_norm")}
    for path in biases:
        size = len(models["sd1"]["unet"].get_submodule(path).weight)
        tensors[f"lora_unet_{flat(path)}.diff_b"] = 0.3 * torch.randn(size)
    save_file(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors", parts)
    assert found.fit.whole and len(found.shifts) == 12 and not found.updates

    def answer(strength: float | None) -> Tensor:
        if strength is not None:
            engine.mixer.load((found,))
            engine.mixer.set([[strength], [0.0]], ENGINE.device)
        text = engine.family.encode_tokens(engine.family.tokenize(["a cat", "a cat"]))
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
        return engine.family.predict(noise, torch.tensor(500), text, torch.zeros(2, 6))

    base, off, mixed = answer(None)[0], answer(0.0)[0], answer(1.0)
    read = [engine.texts.of("a cat", Picture(prompt="a cat", strengths=(one,))).hidden for one in (0.0, 1.0)]
    assert not torch.allclose(*read, atol=1e-3), "a text is encoded anew for another strength of its encoder's norms"
    engine.mixer.load(())
    for target, shift in found.shifts.items():
        layer = parts[target.part].get_submodule(target.path)
        block, _, name = target.path.rpartition(".")
        own = parts[target.part].get_submodule(block).bias1 if fused and name == "conv1" else layer.bias
        own.add_(shift.bias)  # that of a convolution is added by its fused block
        if shift.weight is not None:
            layer.weight.add_(shift.weight)
    wanted = answer(None)[0]
    torch.testing.assert_close(off, base, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], base, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[0], wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - base).norm() > 0.01 * base.norm()


def test_what_is_of_another_model_is_named(models, tmp_path):
    foreign = {
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": "Flux",
        "transformer.single_transformer_blocks.1.attn.to_q.lora_A.weight": "Flux",
        "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": "Stable Diffusion 3",
        "lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_down.weight": "T5",
        "diffusion_model.blocks.0.cross_attn.k.lora_A.weight": "another transformer",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": "language model",
        f"base_model.model.{Q}.ia3_l": "IA3",
        "bundle_emb.ohwx.string_to_param.*": "embedding",
        "emb_params": "textual inversion",
        "unet:0:up": "lora_diffusion",
        "model.diffusion_model.input_blocks.0.0.weight": "whole checkpoint",
        "lora_unet_input_blocks_8_1_transformer_blocks_9_attn1_to_q.lora_down.weight": "no such layer in",
        "lora_te2_text_model_encoder_layers_30_mlp_fc1.lora_down.weight": "no such layer in",
        f"lora_unet_{flat(Q)}.lora_up.weight": "parts are missing",
        "something": "not of any adapter known here",
    }
    for name, words in foreign.items():
        save_file({name: torch.ones(4, 4)}, tmp_path / "a.safetensors")
        with pytest.raises(UserError, match=words):
            read_adapter(tmp_path / "a.safetensors", models["sd1"])
        said = inspect(tmp_path / "a.safetensors")
        assert any(words in line for line in said.fit) or "no such layer" in words
    save_file({name: torch.ones(4, 4) for name in foreign}, tmp_path / "a.safetensors")
    assert len(inspect(tmp_path / "a.safetensors").unmatched) == len(foreign)


def test_where_half_fits_preview_and_inspect_say_so(tiny_sd, models, tmp_path):
    halves, tensors = drawn(models["sd1"], [("unet", Q)]), {}
    for down, up in halves.values():
        tensors |= {f"lora_unet_{flat(Q)}.lora_down.weight": down, f"lora_unet_{flat(Q)}.lora_up.weight": up}
    for index in range(2000):
        stem = f"lora_unet_down_blocks_7_attentions_{index}_proj_in"
        tensors |= {f"{stem}.lora_down.weight": torch.ones(1, 8), f"{stem}.lora_up.weight": torch.ones(8, 1)}
    wide = f"lora_unet_{flat(Q.replace('to_q', 'to_k'))}"
    tensors |= {f"{wide}.lora_down.weight": torch.ones(1, 999), f"{wide}.lora_up.weight": torch.ones(16, 1)}
    path = tmp_path / "half.safetensors"
    save_file(tensors, path)
    found = read_adapter(path, models["sd1"], "the tiny base")
    assert found.fit.summary() == "1 of 2002 modules fit the tiny base."
    assert len(found.unmatched) == 2001 and found.fit.unmatched[wide] == "sizes of another layer"
    lines = " ".join(found.fit.lines())
    assert "2000 (2000 like lora_unet_down_blocks_7_attentions_0_proj_in)" in lines and wide in lines
    notices = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE).use([str(path)])
    assert len(notices) == 1 and "half.safetensors: 1 of 2002 modules fit" in notices[0]
    assert len(notices[0]) < 1000
    said = inspect(path)
    assert (said.modules, said.matched, len(said.unmatched)) == (2002, 0, 2002)
    assert said.fit[0] == "0 of 2002 modules fit Stable Diffusion 1.5."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["lora_up.weight", "alpha"])
def test_numbers_that_are_none_are_refused_where_they_would_be_drawn_and_told_by_inspect(
    where, value, tiny_sd, models, tmp_path
):
    stem = f"lora_unet_{flat(Q)}"
    ((down, up),) = drawn(models["sd1"], [("unet", Q)]).values()
    held = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.ones(1)}
    held[f"{stem}.{where}"].view(-1)[0] = value
    path = tmp_path / "broken.safetensors"
    save_file({name: tensor.half() for name, tensor in held.items()}, path)
    engine = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    with pytest.raises(UserError, match=rf"1 of its \S+ numbers are NaN or infinite, the first in {stem}.{where}"):
        engine.use([str(path)])
    found = report(path)
    assert found.numbers.nan + found.numbers.infinite == 1 and found.numbers.broken == (f"{stem}.{where}",)
    assert any(f"the first in {stem}.{where}" in note for note in found.notes)
    assert inspect(path).modules == 1


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_other_number_types(kind, models, tmp_path):
    halves, tensors = drawn(models["sd1"], [("unet", Q)]), {}
    for down, up in halves.values():
        stem = f"lora_unet_{flat(Q)}"
        tensors = {f"{stem}.lora_down.weight": down.to(kind), f"{stem}.lora_up.weight": up.to(kind)}
    save_file(tensors, tmp_path / "a.safetensors")
    stored = {("unet", Q): tuple(tensor.float() for tensor in tensors.values())}
    compare(read_adapter(tmp_path / "a.safetensors", models["sd1"]), stored, torch.float32, scale=1.0)


def test_a_type_of_four_bits_is_named(models, tmp_path):
    stem = f"lora_unet_{flat(Q)}"
    sizes = {f"{stem}.lora_down.weight": [4, 16], f"{stem}.lora_up.weight": [16, 4]}
    begins = zip(sizes.items(), (0, 32), strict=True)
    header = {n: {"dtype": "F4", "shape": s, "data_offsets": [begin, begin + 32]} for (n, s), begin in begins}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\1" * 64)
    with pytest.raises(UserError, match="numbers of the type F4, which is not read"):
        read_adapter(tmp_path / "a.safetensors", models["sd1"])


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(models, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4), "b": torch.ones(4)}, path)
    with open_tensors(path) as (file, header), pytest.raises(UserError, match="written to while it was read"):
        for _ in read_tensors(file, header, ["a", "b"]):
            path.open("ab").write(b"more")
    save_file({"a": torch.ones(99_999), "b": torch.ones(99_999)}, path)
    with open_tensors(path) as (file, header), pytest.raises(UserError, match="shorter while it was read"):
        for _ in read_tensors(file, header, ["a", "b"]):
            os.truncate(path, 800)


def test_the_guide_has_every_kind_and_role():
    guide = (Path(__file__).parents[3] / "docs" / "reading.md").read_text("utf-8")
    for kind in KINDS:
        assert f"| {kind.title} |" in guide
    assert f"{MAX_TENSORS:,}".replace(",", " ") in guide and f"{MAX_HEADER_BYTES // 10**6} MB" in guide
