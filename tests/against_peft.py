"""The gradient of a whole UNet's adapter, once ours and once PEFT's, in fp32."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from peft import LoraConfig

from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection
from trainer.families.blocks import lean
from trainer.families.sd import UNET_TARGETS, _paths
from trainer.kernels.reference import Kernels
from trainer.protocols import Target

RANK, ALPHA = 4, 2.0


def loss_of(unet: UNet2DConditionModel, device: torch.device) -> torch.Tensor:
    """The loss of a fixed batch."""
    generator, config = torch.Generator().manual_seed(0), unet.config

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    added = None
    noisy, text, wanted = draw(2, 4, 8, 8), draw(2, 77, config.cross_attention_dim), draw(2, 4, 8, 8)
    if config.addition_embed_type:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": draw(2, pooled), "time_ids": draw(2, 6).abs() * 100}
    steps = torch.tensor([3, 700], device=device)
    return F.mse_loss(unet(noisy, steps, text, added_cond_kwargs=added, return_dict=False)[0], wanted)


def cosine_to_peft(folder: Path, kernels: Kernels | None, device: torch.device) -> float:
    """Cosine between our gradient and PEFT's, of the same matrices on the same base.

    Args:
        folder: a tiny base.
        kernels: of the lean blocks; None for diffusers' own blocks.
        device: where to compute.
    """
    mine, theirs = (
        UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False).to(device) for _ in range(2)
    )
    if kernels is not None:
        lean(mine, kernels)
    paths = _paths(theirs, UNET_TARGETS["transformer"])
    options = AdapterSection(rank=RANK, alpha=ALPHA)
    adapter = attach([Target("unet", path) for path in paths], {"unet": mine}, options, 0)
    adapter.arena.work.normal_(0, 0.1)
    theirs.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=paths))
    pairs = []
    for target, layer in adapter.layers.items():
        other = theirs.get_submodule(target.path)
        for ours, peft in ((layer.A, other.lora_A["default"].weight), (layer.B, other.lora_B["default"].weight)):
            peft.data.copy_(ours.detach().view_as(peft))
            pairs.append((ours, peft))
    for unet in (mine, theirs):
        loss_of(unet, device).backward()
    gradients = [torch.cat([side.grad.flatten().double() for side in both]) for both in zip(*pairs, strict=True)]
    return F.cosine_similarity(*gradients, dim=0).item()
