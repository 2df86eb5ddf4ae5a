"""The exported file in diffusers: every key taken, and the same picture as our own preview."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection, ModelSection
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine
from trainer.export.kohya import export_adapter, kohya_tensors
from trainer.families.locate import load_family
from trainer.formats.clients.pipelines import even_ranks
from trainer.formats.header import read_header
from trainer.formats.metadata import AdapterFacts
from trainer.preview.answer import answer
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.protocols import Target

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
FACTS = AdapterFacts(
    name="mine",
    base_version="sd_v1",
    base_name="tiny",
    rank=4,
    alpha=2.0,
    pictures=6,
    resolution=64,
    steps=1,
    epochs=1,
    batch_size=1,
    learning_rate=1e-4,
    optimizer="adamw",
    schedule="cosine",
    seed=0,
    recipe="",
)


@dataclass(frozen=True)
class Case:
    """An adapter file with a plain effect on its base."""

    base: Path
    file: Path
    text_encoder: bool


def write_adapter(base: Path, path: Path, text_encoder: bool, size: float, targets: str = "transformer") -> None:
    """An adapter with a plain effect: both matrices random, of standard deviation `size`."""
    family = load_family(ModelSection(base=str(base)), ENGINE)
    options = AdapterSection(rank=4, alpha=2.0, text_encoder=text_encoder, conv_rank=3, ranks={"mid_block.*": 2})
    options = options if targets == "everything" else AdapterSection(rank=4, alpha=2.0, text_encoder=text_encoder)
    adapter = attach(family.targets(targets, text_encoder), family.parts, options, seed=0)
    adapter.arena.master.normal_(std=size, generator=torch.Generator().manual_seed(1))
    export_adapter(path, adapter.tensors(), family.layout(), FACTS, "fp16")


@pytest.fixture(scope="module", params=["tiny, unet", "tiny, unet and text", "demo, unet and text"])
def case(request, tiny_sd, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "mine.safetensors"
    base, size = (demo_folder() / "base", 0.06) if "demo" in request.param else (tiny_sd, 0.3)
    write_adapter(base, path, "text" in request.param, size)
    return Case(base, path, "text" in request.param)


def ours(base, file, folder, strength: float) -> np.ndarray:
    request = GenerateRequest(
        id="p",
        base=str(base),
        adapters=(str(file),),
        pictures=(Picture(prompt="a red thing", negative="grey", seed=5, strengths=(strength,)),),
        steps=6,
        guidance=4.0,
        out=str(folder),
    )
    (path,), notices = answer(PreviewEngine(ModelSection(base=str(base)), ENGINE), request, Watcher())
    assert notices == []
    return np.asarray(Image.open(path), dtype=np.float32)


def diffusers_picture(base, file, scale: float | None) -> np.ndarray:
    pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++", solver_order=2
    )
    pipe.set_progress_bar_config(disable=True)
    if scale is not None:
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="a")
        pipe.set_adapters(["a"], [scale])
    image = pipe(
        "a red thing",
        negative_prompt="grey",
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="pil",
    ).images[0]
    return np.asarray(image, dtype=np.float32)


def test_diffusers_draws_the_same_picture_with_convolutions_and_ranks_by_block(tiny_sd, tmp_path):
    file = tmp_path / "mine.safetensors"
    write_adapter(tiny_sd, file, True, 0.3, "everything")
    tensors = load_file(file)
    assert tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape == (3, 16, 3, 3)
    assert tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"].shape == (16, 3, 1, 1)
    assert tensors["lora_unet_mid_block_resnets_0_conv1.lora_down.weight"].shape == (2, 32, 3, 3)
    filled = tensors["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight"]
    assert filled.shape == (4, 32) and filled[:2].all() and not filled[2:].any(), "as wide as other attention layers"
    assert "lora_unet_down_blocks_0_downsamplers_0_conv.lora_down.weight" in tensors
    theirs = diffusers_picture(tiny_sd, file, 1.0)
    assert np.abs(theirs - diffusers_picture(tiny_sd, file, None)).mean() > 2
    assert np.abs(ours(tiny_sd, file, tmp_path, 1.0) - theirs).max() <= 1


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_diffusers_draws_the_same_picture(case, tmp_path, strength):
    mine = ours(case.base, case.file, tmp_path, strength)
    theirs = diffusers_picture(case.base, case.file, strength)
    base = diffusers_picture(case.base, case.file, None)
    assert np.abs(theirs - base).mean() > 2, "the adapter changes nothing, so equality would prove nothing"
    assert np.abs(mine - theirs).max() <= 1, "at most a rounding step of 1 in 255 apart"


def test_strength_zero_is_the_base_bit_for_bit(case, tmp_path):
    with_zero = ours(case.base, case.file, tmp_path, 0.0)
    request = GenerateRequest(
        id="b",
        base=str(case.base),
        pictures=(Picture(prompt="a red thing", negative="grey", seed=5),),
        steps=6,
        guidance=4.0,
        out=str(tmp_path),
    )
    (path,), _ = answer(PreviewEngine(ModelSection(base=str(case.base)), ENGINE), request, Watcher())
    assert np.array_equal(with_zero, np.asarray(Image.open(path), dtype=np.float32))
    assert np.abs(with_zero - ours(case.base, case.file, tmp_path, 1.0)).mean() > 2


@pytest.mark.parametrize("case", ["tiny, unet", "tiny, unet and text"], indirect=True)
def test_names_are_kohyas_to_the_letter(case):
    tensors = load_file(case.file)
    names = set(tensors)
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight" in names
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_out_0.lora_up.weight" in names
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj.alpha" in names
    assert "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_ff_net_2.lora_up.weight" in names
    assert tensors["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"].shape == (4, 16, 1, 1)
    text = {name for name in names if name.startswith("lora_te_")}
    if case.text_encoder:
        assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in text
        assert "lora_te_text_model_encoder_layers_1_mlp_fc2.alpha" in text
        assert len(text) == 2 * 6 * 3
    else:
        assert not text
    assert all(name.startswith(("lora_unet_", "lora_te_")) for name in names)
    alphas = [tensor for name, tensor in tensors.items() if name.endswith(".alpha")]
    assert all(alpha.dim() == 0 and float(alpha) == 2.0 for alpha in alphas)
    assert len(names) == 3 * len(alphas)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    metadata = read_header(case.file).metadata
    assert (
        metadata["ss_network_dim"] == "4"
        and metadata["ss_network_alpha"] == "2"
        and metadata["ss_base_model_version"] == "sd_v1"
    )


def test_a_value_that_fp16_cannot_hold_is_refused(tiny_sd):
    family = load_family(ModelSection(base=str(tiny_sd)), ENGINE)
    adapter = attach(family.targets("attention", False), family.parts, AdapterSection(rank=1), seed=0)
    adapter.arena.master[0] = 1e6
    with pytest.raises(UserError, match="fp16"):
        kohya_tensors(adapter.tensors(), family.layout(), "fp16")


def update_of(tensors, stem="lora_unet_x_to_q"):
    up, down = (tensors[f"{stem}.lora_{name}.weight"].double() for name in ("up", "down"))
    return up @ down * float(tensors[f"{stem}.alpha"]) / len(down)


@pytest.mark.parametrize("alpha", [4.0, 8 * 8**0.5])  # the second is rsLoRA's, for alpha 8 at rank 8
def test_every_tensor_has_the_files_type_and_the_update_is_as_trained(alpha):
    target, layout = Target("unet", "x.to_q"), {"unet": ["x.to_q"]}
    held = {"lora_down.weight": torch.ones(8, 4), "lora_up.weight": torch.ones(4, 8), "alpha": torch.tensor(alpha)}
    written = kohya_tensors({target: held}, layout, "fp16")
    assert {tensor.dtype for tensor in written.values()} == {torch.float16}
    assert written["lora_unet_x_to_q.alpha"].item() == pytest.approx(alpha, rel=2**-11)
    assert torch.allclose(update_of(written), torch.full((4, 4), alpha, dtype=torch.float64), rtol=2**-10, atol=0)
    exact = kohya_tensors({target: held}, layout, "fp32")
    assert exact["lora_unet_x_to_q.alpha"].item() == torch.tensor(alpha).item()


@pytest.mark.parametrize(("down", "up"), [(0.04, 1e-6), (3e-7, 5.0), (1.0, 0.7)])
def test_both_matrices_have_like_norms_so_that_fp16_keeps_their_digits(down, up):
    draws = torch.Generator().manual_seed(2)
    target, layout = Target("unet", "x.to_q"), {"unet": ["x.to_q"]}
    held = {
        "lora_down.weight": torch.randn(8, 300, generator=draws) * down,
        "lora_up.weight": torch.randn(40, 8, generator=draws) * up,
        "alpha": torch.tensor(8.0),
    }
    written = kohya_tensors({target: held}, layout, "fp16")
    sizes = [float(tensor.double().square().mean().sqrt()) for tensor in written.values() if tensor.dim()]
    assert 0.5 <= sizes[0] / sizes[1] <= 2
    trained = held["lora_up.weight"].double() @ held["lora_down.weight"].double()
    assert float((update_of(written) - trained).norm() / trained.norm()) < 2**-10
    exact = kohya_tensors({target: held}, layout, "fp32")
    assert torch.equal(update_of(exact), trained), "a power of two changes no digit"


def test_an_untrained_layer_is_written_as_it_is():
    target, layout = Target("unet", "x.to_q"), {"unet": ["x.to_q"]}
    held = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.zeros(4, 2), "alpha": torch.tensor(2.0)}
    written = kohya_tensors({target: held}, layout, "fp16")
    assert torch.equal(written["lora_unet_x_to_q.lora_down.weight"], torch.ones(2, 4).half())


Q = "lora_unet_down_blocks_{}_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize(
    ("ranks", "filled"),
    [
        ({Q.format(0): 4, Q.format(1): 4, "lora_te_a": 2}, {}),
        ({Q.format(0): 4, Q.format(1): 4, "lora_unet_conv_in": 2}, {"lora_unet_conv_in": 2}),
        ({Q.format(0): 2, Q.format(1): 4}, {Q.format(0): 4, Q.format(1): 4}),
        ({"lora_unet_a_conv1": 2, "lora_unet_b_conv1": 8}, {"lora_unet_a_conv1": 2, "lora_unet_b_conv1": 8}),
        (  # not most layers have attention's rank
            {Q.format(0): 4, "lora_unet_a_conv1": 2, "lora_unet_b_conv1": 2},
            {Q.format(0): 4, "lora_unet_a_conv1": 4, "lora_unet_b_conv1": 4},
        ),
        ({Q.format(0): 4, "lora_unet_a_conv1": 8}, {Q.format(0): 8, "lora_unet_a_conv1": 8}),
    ],
)
def test_ranks_are_filled_up_only_where_a_release_of_diffusers_needs_it(ranks, filled):
    found = even_ranks(ranks)
    assert {stem: found[stem] for stem in filled} == filled and all(found[stem] >= ranks[stem] for stem in found)
    assert bool(found) == bool(filled) and all(stem.startswith("lora_unet_") for stem in found)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_ranks_that_are_filled_up_change_no_update(dtype):
    drawn, adapter = torch.Generator().manual_seed(0), {}
    paths = {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (2, 3.0), "conv_in": (3, 1.0)} | {
        f"mid_block.attentions.0.transformer_blocks.0.attn2.to_{name}": (4, 2.0) for name in "qkv"
    }
    for path, (rank, alpha) in paths.items():
        adapter[Target("unet", path)] = {
            "lora_down.weight": torch.randn(rank, 6, generator=drawn),
            "lora_up.weight": torch.randn(5, rank, generator=drawn),
            "alpha": torch.tensor(alpha),
        }
    written = kohya_tensors(adapter, {"unet": list(paths)}, dtype)
    for target, held in adapter.items():
        stem = f"lora_unet_{target.path.replace('.', '_')}"
        wanted = held["lora_up.weight"].double() @ held["lora_down.weight"].double()
        wanted *= float(held["alpha"]) / len(held["lora_down.weight"])
        up, down = (written[f"{stem}.lora_{name}.weight"].double() for name in ("up", "down"))
        assert float(written[f"{stem}.alpha"]) == len(down), "as 0.32.1 takes it"
        assert float((up @ down - wanted).norm() / wanted.norm()) <= (1e-3 if dtype == "fp16" else 1e-6)
