"""Files that PEFT and LyCORIS themselves write, read to the update that they themselves compute."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.adapters.read import AdapterFile, read_adapter
from trainer.contract.config import ModelSection
from trainer.device import Engine
from trainer.families.locate import load_family

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
LAYERS = ["to_q", "to_k", "to_out.0", "proj_in", "conv1", "conv_shortcut", "ff.net.2"]


@pytest.fixture(scope="module")
def parts(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), ENGINE).parts


@pytest.fixture
def unet(tiny_sd) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_sd / "unet").requires_grad_(False)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: m.weight.detach().clone() for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


def drawn(module: nn.Module) -> None:
    """Something in every tensor that is learned; none too small to be measured beside the base's weight."""
    torch.manual_seed(0)
    for name, tensor in module.named_parameters():
        if tensor.requires_grad:
            own = tensor.data if "magnitude" in name or "dora" in name or "rescale" in name else 0.0
            tensor.data = own + 0.3 * torch.randn_like(tensor) * (0.3 if torch.is_tensor(own) else 1.0)


def check(found: AdapterFile, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Every changed layer is read, to the same weight."""
    changed = {path for path in after if not torch.equal(before[path], after[path])}
    assert {target.path for target in found.updates} == changed and changed
    assert not found.unmatched and found.fit.whole
    for target, update in found.updates.items():
        change = (update.up.flatten(1) @ update.down.flatten(1)).view_as(before[target.path])
        away = (before[target.path] + change - after[target.path]).norm()
        assert away <= 1e-6 * (after[target.path] - before[target.path]).norm() + 3e-7 * after[target.path].norm()


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, lora_alpha=3, target_modules=LAYERS),
        LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=LAYERS),
        LoraConfig(r=4, alpha_pattern={"attn1.to_q": 7}, rank_pattern={"conv1": 2}, target_modules=LAYERS),
        LoraConfig(r=4, lora_alpha=3, use_dora=True, target_modules=LAYERS),
        LoHaConfig(r=4, alpha=3, target_modules=LAYERS),
        LoHaConfig(r=4, alpha=3, use_effective_conv2d=True, target_modules=LAYERS),
        LoKrConfig(r=4, alpha=3, target_modules=LAYERS),
        LoKrConfig(r=2, alpha=3, decompose_both=True, use_effective_conv2d=True, target_modules=LAYERS),
        OFTConfig(r=0, oft_block_size=4, target_modules=["to_q", "to_k", "conv1"]),
        OFTConfig(r=0, oft_block_size=4, use_cayley_neumann=False, target_modules=["to_q", "to_k"]),
    ],
    ids=["lora", "rslora", "patterns", "dora", "loha", "loha-tucker", "lokr", "lokr-tucker", "oft", "oft-exact"],
)  # fmt: skip
def test_peft(config, unet, parts, tmp_path):
    before = weights(unet)
    model = get_peft_model(unet, config)
    drawn(model)
    model.save_pretrained(tmp_path)
    found = read_adapter(tmp_path / "adapter_model.safetensors", parts)
    check(found, before, weights(model.merge_and_unload()))


def test_peft_s_biases(unet, parts, tmp_path):
    before = {n: m.bias.clone() for n, m in unet.named_modules() if n.endswith("to_out.0")}
    model = get_peft_model(unet, LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=["to_out.0"]))
    drawn(model)
    model.save_pretrained(tmp_path)
    found = read_adapter(tmp_path / "adapter_model.safetensors", parts)
    after = model.merge_and_unload()
    assert {target.path for target in found.shifts} == set(before)
    for target, shift in found.shifts.items():
        torch.testing.assert_close(before[target.path] + shift.bias, after.get_submodule(target.path).bias)


def merged(lora, weight: Tensor) -> Tensor:
    """LyCORIS' own weight. Of LoHa and LoKr its merge would have the scale twice; clients and its training have not."""
    if not hasattr(lora, "get_weight"):
        return lora.get_merged_weight(shape=weight.shape)[0].view_as(weight)
    whole = weight + lora.get_weight(weight.shape)
    return lora.apply_weight_decompose(whole) if lora.wd else whole


PRESET = {"enable_conv": True, "target_module": ["Attention", "FeedForward", "ResnetBlock2D"]}


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("lora", {}),
        ("lora", {"use_tucker": True}),
        ("lora", {"rs_lora": True}),
        ("lora", {"dora_wd": True}),
        ("lora", {"dora_wd": True, "wd_on_output": False}),
        ("loha", {}),
        ("loha", {"use_tucker": True}),
        ("loha", {"dora_wd": True}),
        ("lokr", {"factor": 2}),
        ("lokr", {"factor": 2, "use_tucker": True}),
        ("lokr", {"factor": 4, "decompose_both": True}),
        ("lokr", {"full_matrix": True}),
        ("lokr", {"factor": 2, "dora_wd": True}),
        ("diag-oft", {}),
        ("diag-oft", {"rescaled": True, "constraint": 0.05}),
        ("boft", {}),
        ("glora", {}),
        ("ia3", {}),
    ],
    ids=str,
)
def test_lycoris(algo, options, unet, parts, tmp_path):
    from lycoris import LycorisNetwork, create_lycoris  # noqa: PLC0415 - slow

    LycorisNetwork.apply_preset(PRESET)
    before, after, tensors = weights(unet), weights(unet), {}
    sizes = {"linear_dim": 4, "linear_alpha": 3, "conv_dim": 4, "conv_alpha": 3}
    net = create_lycoris(unet, 1.0, algo=algo, **sizes, **options)
    paths = {f"lycoris_{path.replace('.', '_')}": path for path in before}
    for lora in net.loras:
        if lora.lora_name not in paths:
            continue
        path = paths[lora.lora_name]
        drawn(lora)
        tensors |= {f"{lora.lora_name}.{name}": t.detach().clone() for name, t in lora.state_dict().items()}
        with torch.no_grad():
            after[path] = merged(lora, before[path])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(tmp_path / "a.safetensors"))
    check(read_adapter(tmp_path / "a.safetensors", parts), before, after)
