"""An SDXL adapter file: diffusers takes every key of it, and so does our own reader."""

import logging
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from tests.tiny_sdxl import make_tiny_sdxl
from tests.trainer.export.test_kohya_export import FACTS
from trainer.adapters.read import read_adapter
from trainer.contract.errors import UserError
from trainer.export.kohya import export_adapter
from trainer.formats.inspect import SDXL, inspect
from trainer.formats.kohya import module_names, split_name
from trainer.protocols import Target

RANK, ALPHA = 4, 2.0
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
PARTS = ("unet", "text_encoder", "text_encoder_2")
TARGETS = {  # case -> whether an adapter is put on a layer
    "unet": lambda part, path: part == "unet" and "attentions" in path,
    "unet and both text encoders": lambda part, path: "attentions" in path or path.endswith(TEXT),
    "text encoders": lambda part, path: path.endswith(TEXT),
    "every layer of the unet": lambda part, path: part == "unet",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("base") / "sdxl")


def open_pipe(base) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def parts_of(pipe) -> dict[str, nn.Module]:
    return {part: getattr(pipe, part) for part in PARTS}


def random_matrices(parts, wanted) -> dict[Target, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    matrices = {}
    for part, root in parts.items():
        for path, layer in root.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and wanted(part, path):
                down = torch.randn(RANK, *layer.weight.shape[1:], generator=generator)
                up = torch.randn(layer.weight.shape[0], RANK, *[1] * (layer.weight.dim() - 2), generator=generator)
                matrices[Target(part, path)] = (down, up)
    return matrices


def write(path, matrices, parts) -> None:
    layout = {part: [name for name, _ in root.named_modules()] for part, root in parts.items()}
    held = {
        target: {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
        for target, (down, up) in matrices.items()
    }
    export_adapter(path, held, layout, replace(FACTS, base_version="sdxl_base_v1-0"), "fp32")


@pytest.fixture(scope="module", params=TARGETS)
def case(request, base, tmp_path_factory):
    """The parts of a base, random matrices for them and the file that holds those."""
    parts = parts_of(open_pipe(base))
    matrices = random_matrices(parts, TARGETS[request.param])
    path = tmp_path_factory.mktemp("adapter") / "mine.safetensors"
    write(path, matrices, parts)
    return parts, matrices, path


def test_our_reader_takes_back_what_was_written(case):
    parts, matrices, path = case
    found = read_adapter(path, parts)
    assert found.unmatched == ()
    assert found.updates.keys() == matrices.keys()
    for target, (down, up) in matrices.items():
        assert torch.equal(found.updates[target].down, down)
        assert torch.equal(found.updates[target].up, up * (ALPHA / RANK))


def test_diffusers_puts_every_matrix_in_its_layer(case, base, monkeypatch, caplog):
    _, matrices, path = case
    for name in ("diffusers", "transformers"):  # else their warnings never reach caplog
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    pipe = open_pipe(base)
    pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="mine")
    loaded = {
        Target(part, name): layer
        for part, root in parts_of(pipe).items()
        for name, layer in root.named_modules()
        if "mine" in getattr(layer, "lora_A", ())
    }
    assert loaded.keys() == matrices.keys()
    for target, (down, up) in matrices.items():
        layer = loaded[target]
        assert torch.equal(layer.lora_A["mine"].weight, down), target
        assert torch.equal(layer.lora_B["mine"].weight, up), target
        assert layer.scaling["mine"] == ALPHA / RANK, target
    said = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    untouched = len(PARTS) - len({target.part for target in matrices})
    assert sum("No LoRA keys associated" in message for message in said) == len(said) == untouched


@pytest.mark.parametrize("case", ["unet and both text encoders"], indirect=True)
@pytest.mark.parametrize("form", ["diffusers", "kohya with diffusers' block names"])
def test_what_diffusers_writes_is_read(case, base, tmp_path, form):
    parts, matrices, path = case
    pipe = open_pipe(base)
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    layers = {part: get_peft_model_state_dict(root, adapter_name="default_0") for part, root in parts_of(pipe).items()}
    pipe.save_lora_weights(tmp_path, **{f"{part}_lora_layers": tensors for part, tensors in layers.items()})
    theirs = tmp_path / "pytorch_lora_weights.safetensors"
    if form != "diffusers":
        save_file(convert_state_dict_to_kohya(load_file(theirs)), theirs)
        assert any(name.startswith("lora_unet_down_blocks_1_attentions_0_") for name in load_file(theirs))
        assert any(name.startswith("lora_te2_") for name in load_file(theirs))
    found = read_adapter(theirs, parts)
    assert found.unmatched == ()
    assert found.updates.keys() == matrices.keys()
    assert all(torch.equal(found.updates[target].down, down) for target, (down, _) in matrices.items())


@pytest.mark.parametrize("case", ["unet and both text encoders"], indirect=True)
def test_the_file_says_what_it_is(case):
    _, matrices, path = case
    names = set(load_file(path))
    assert "lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k.lora_down.weight" in names
    assert "lora_unet_middle_block_1_proj_in.alpha" in names
    assert "lora_unet_output_blocks_1_1_transformer_blocks_0_ff_net_0_proj.lora_up.weight" in names
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in names
    assert "lora_te2_text_model_encoder_layers_1_mlp_fc2.alpha" in names
    assert len(names) == 3 * len(matrices)
    found = inspect(path)
    assert (found.format, found.family, found.base) == ("kohya", SDXL, "tiny")
    assert (found.text_encoder_modules, found.text_encoder_2_modules, found.other_modules) == (12, 12, 0)
    assert found.unet_modules == len(matrices) - 24


def test_a_file_for_the_unet_alone_still_has_the_names_of_sdxl(base, tmp_path):
    parts = parts_of(open_pipe(base))
    write(tmp_path / "mine.safetensors", random_matrices(parts, TARGETS["unet"]), parts)
    blocks = {name.split("_")[2] for name in load_file(tmp_path / "mine.safetensors")}
    assert blocks == {"input", "middle", "output"}


def test_a_second_text_encoders_layer_of_another_width_is_refused(base, tmp_path):
    parts = parts_of(open_pipe(base))
    layer = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    tensors = {f"{layer}.lora_down.weight": torch.ones(1, 32), f"{layer}.lora_up.weight": torch.ones(32, 1)}
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match="nothing in this file fits"):
        read_adapter(tmp_path / "mine.safetensors", parts)


def test_diffusers_reads_every_name_of_a_full_size_sdxl():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    paths = [path for path, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    names = module_names({"unet": paths, "text_encoder_2": []})
    assert sum("attentions" in path for path in paths) == 722  # what kohya trains
    one = torch.ones(1)
    for path in paths:  # one at a time, so that a name read as another layer's is seen
        name = names["unet", path]
        file = {f"{name}.lora_down.weight": one, f"{name}.lora_up.weight": one, f"{name}.alpha": one}
        read, alphas = StableDiffusionXLPipeline.lora_state_dict(file, unet_config=unet.config)
        assert {split_name(key)[0] for key in read} == {f"unet.{path}"}
        assert len(read) == 2 and len(alphas) == 1
