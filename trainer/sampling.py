"""From prompts to pictures with whatever the model is at this moment: used while training and by the image engine.

Shapes as in `trainer.protocols`. Initial noise is drawn on the CPU, so that a seed means the same picture everywhere.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.errors import UserError
from trainer.protocols import Family, Text

SHARE = 0.1  # of a run's time that sample pictures may take where nobody says when to draw them
VALIDATION_SHARE = 0.02  # of it, where pictures are held out and nobody says when to measure
MOST_ROUNDS = 5  # of them, after the one at the start


@dataclass(frozen=True)
class Shot:
    """How pictures are drawn.

    Attributes:
        width, height: in pixels.
        steps: denoising steps.
        guidance: classifier-free guidance scale (arXiv 2207.12598); 1 skips the empty prompt.
        sampler: name in the catalogue.
        lean: whether the negative and the positive prompt are answered one after the other, in half the memory.
    """

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    lean: bool = False


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
    parts = [slice(row, row + 1) for row in range(len(sizes))] if shot.lean else [slice(None)]
    latents = noise.to(device) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        rows = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, timestep)
        answer = torch.cat([family.predict(rows[part], timestep, condition.pick(part), sizes[part]) for part in parts])
        answer = answer.float()
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
    """A picture for each text, all from one seed and in one batch; one after the other where the shot is lean."""
    noise = starting_noise(family, shot, [seed])
    if shot.lean:
        latents = [denoise(family, shot, noise, text) for text in texts]
    else:
        negative, positive = (Text.join(part) for part in zip(*texts, strict=True))
        latents = list(denoise(family, shot, noise.repeat(len(texts), 1, 1, 1), (negative, positive)).split(1))
    return [image for one in latents for image in to_images(family.decode(one))]


@dataclass(frozen=True)
class Rounds:
    """When sample pictures are drawn, besides at the start and at the end.

    Attributes:
        every: optimiser steps from one round to the next; None for never.
        prompts: pictures of a round, the first ones of the prompts.
        seconds: of one picture; 0 while unknown.
    """

    every: int | None
    prompts: int
    seconds: float = 0.0

    def left(self, step: int, total: int) -> int:
        """Rounds after `step` steps, the one at the end with them."""
        return 0 if self.every is None else (total - 1) // self.every - step // self.every + 1


def affordable_rounds(prompts: int, total: int, work: float, seconds: float, share: float = SHARE) -> Rounds:
    """Every fifth of the run, or as seldom as keeps all pictures within `share` of its time.

    A run too short for even two rounds of all its prompts draws the first prompt only. The start and the end are never
    left out.

    Args:
        prompts: that there are.
        total: optimiser steps of the run.
        work: seconds of the whole run without pictures.
        seconds: of one picture.
        share: of the run's time.
    """
    budget = work * share / (1 - share)
    for count in (prompts, 1):
        rounds = min(int(budget / max(count * seconds, 1e-9)) - 1, MOST_ROUNDS)  # without the one at the start
        if rounds >= 1:
            return Rounds(math.ceil(total / rounds), count, seconds)
    return Rounds(total, 1, seconds)
