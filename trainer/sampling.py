"""From prompts to pictures with whatever the model is at this moment: used while training and by the image engine.

Shapes as in `trainer.protocols`. Initial noise is drawn on the CPU, so that a seed means the same picture everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.errors import UserError
from trainer.protocols import Family, Text


@dataclass(frozen=True)
class Shot:
    """How pictures are drawn.

    Attributes:
        width, height: in pixels.
        steps: denoising steps.
        guidance: classifier-free guidance scale (arXiv 2207.12598); 1 skips the empty prompt.
        sampler: name in the catalogue.
    """

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str


def check_size(family: Family, width: int, height: int) -> None:
    """Raise UserError unless the base can draw pictures of this size."""
    if width % family.step or height % family.step or min(width, height) < family.step:
        raise UserError(
            f"{width}x{height} cannot be drawn", "size", f"Both sides must be multiples of {family.step} pixels."
        )


def starting_noise(family: Family, shot: Shot, seeds: Sequence[int]) -> Tensor:
    """[B, C, h, w] standard normal, each picture from its own seed, as diffusers draws it."""
    shape = (1, *family.latent_shape(shot.width, shot.height))
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def denoise(
    family: Family,
    shot: Shot,
    noise: Tensor,
    text: tuple[Text, Text],
    on_step: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """Denoise a batch.

    Args:
        family: predicts, with adapters already where they should be.
        shot: size, steps, guidance, sampler.
        noise: [B, C, h, w] on the CPU.
        text: of the (negative, positive) prompts, B each.
        on_step: told the number of steps done; may raise to stop.

    Returns:
        [B, C, h, w] clean latents.
    """
    row = pick("sampling.sampler", shot.sampler)
    device = text[1].hidden.device
    scheduler = resolve(row).from_config(family.scheduler, **dict(row.options))
    scheduler.set_timesteps(shot.steps, device=device)
    guided = shot.guidance > 1
    condition = Text.join(text) if guided else text[1]
    sizes = torch.tensor([shot.height, shot.width, 0, 0, shot.height, shot.width], dtype=torch.float32, device=device)
    sizes = sizes.expand(len(condition.hidden), -1)
    latents = noise.to(device) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        rows = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, timestep)
        answer = family.predict(rows, timestep, condition, sizes).float()
        if guided:
            negative, positive = answer.chunk(2)
            answer = negative + shot.guidance * (positive - negative)
        latents = scheduler.step(answer, timestep, latents, return_dict=False)[0]
        on_step(index + 1)
    return latents


def to_images(pixels: Tensor) -> list[Image.Image]:
    """[B, 3, H, W] in -1..1 -> RGB pictures."""
    rounded = (pixels * 0.5 + 0.5).clamp(0, 1).mul(255).round().byte()
    return [Image.fromarray(array.numpy()) for array in rounded.permute(0, 2, 3, 1).cpu()]


@torch.no_grad()
def encode_pairs(family: Family, negative: str, prompts: Sequence[str], limit: int = 3) -> list[tuple[Text, Text]]:
    """(negative, positive) of every prompt, both as long as the longer needs."""
    pairs = []
    for prompt in prompts:
        both = family.encode_tokens(family.tokenize([negative, prompt], limit))
        pairs.append((both.pick(slice(0, 1)), both.pick(slice(1, 2))))
    return pairs


@torch.no_grad()
def draw(family: Family, shot: Shot, texts: Sequence[tuple[Text, Text]], seed: int) -> list[Image.Image]:
    """Draw a picture for each text, seeds counting up, one at a time so that memory stays low while training."""
    images = []
    for index, text in enumerate(texts):
        noise = starting_noise(family, shot, [seed + index])
        images += to_images(family.decode(denoise(family, shot, noise, text)))
    return images
