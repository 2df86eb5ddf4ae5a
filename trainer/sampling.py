"""From prompts to pictures with whatever the model is at this moment: used while training and by the image engine.

Shapes as in `trainer.protocols`. Initial noise is drawn on the CPU, so that a seed means the same picture everywhere.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.errors import UserError
from trainer.families.prompts import encode_prompt, level
from trainer.formats.prompt import take_tags
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
        guidance: classifier-free guidance scale (arXiv 2207.12598) of all pictures, or of each; 1 skips the negative
            prompt.
        sampler: name in the catalogue.
        lean: whether the negative and the positive prompt are answered one after the other, in half the memory.
        rescale: share of guidance that is scaled back, see `guided`.
    """

    width: int
    height: int
    steps: int
    guidance: float | tuple[float, ...]
    sampler: str
    lean: bool = False
    rescale: float = 0.0

    def scales(self, pictures: int) -> tuple[float, ...]:
        """Guidance of each picture."""
        return self.guidance if isinstance(self.guidance, tuple) else (self.guidance,) * pictures

    def asked_twice(self, pictures: int) -> list[int]:
        """The pictures for which the negative prompt is answered too; these answers come before all others."""
        return [row for row, scale in enumerate(self.scales(pictures)) if scale > 1]


def check_size(family: Family, width: int, height: int) -> None:
    """Raise UserError unless the base can draw pictures of this size."""
    if width % family.step or height % family.step or min(width, height) < family.step:
        raise UserError(
            f"{width}x{height} cannot be drawn", "size", f"Both sides must be multiples of {family.step} pixels."
        )


def noise_sources(family: Family, shot: Shot, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Starting noise [B, C, h, w], standard normal, each picture from its own seed, as diffusers draws it.

    And for each picture where the noise comes from that some samplers add: the same generator.
    """
    shape = (1, *family.latent_shape(shot.width, shot.height))
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.cat([torch.randn(shape, generator=source) for source in sources]), sources


def guided(negative: Tensor, positive: Tensor, scale: float | Tensor, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598) of [B, ...].

    Args:
        negative, positive: answers to the two prompts.
        scale: 1 is the positive one; [B, 1, ...] where pictures differ.
        rescale: share of the result that is brought back to the positive answer's standard deviation, picture by
            picture (arXiv 2305.08891, section 3.4): less burnt at a high scale.
    """
    answer = negative + scale * (positive - negative)
    if not rescale:
        return answer
    axes = tuple(range(1, answer.dim()))
    factor = positive.std(axes, keepdim=True) / answer.std(axes, keepdim=True)
    return answer * (rescale * factor + 1 - rescale)


Progress = Callable[[int, Callable[[], Tensor]], None]


@torch.no_grad()
def denoise(
    family: Family,
    shot: Shot,
    noise: Tensor,
    text: tuple[Text, Text],
    on_step: Progress = lambda step, clean: None,
    sources: Sequence[torch.Generator] = (),
    prepare: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Denoise a batch.

    Args:
        family: predicts, with adapters already where they should be.
        shot: size, steps, guidance, sampler.
        noise: [B, C, h, w] on the CPU.
        text: of the (negative, positive) prompts, B each.
        on_step: told the number of steps done, and a way to find what the clean latents would be by now, [B, C, h, w];
            may raise to stop. A sampler that asks the model more than once a step tells of a step when it is whole.
        sources: of the noise that a sampler adds, on the CPU, for each picture; seed 0 where none are given.
        prepare: told the share of steps done before each.

    Returns:
        [B, C, h, w] clean latents.
    """
    device = text[1].hidden.device
    scheduler = _scheduler(family, shot)
    twice = torch.tensor(shot.asked_twice(len(noise)), dtype=torch.int64, device=device)
    condition = Text.join((text[0].pick(twice), text[1]))
    sizes = torch.tensor([shot.height, shot.width, 0, 0, shot.height, shot.width], dtype=torch.float32, device=device)
    sizes = sizes.expand(len(condition.hidden), -1)
    parts = [slice(row, row + 1) for row in range(len(sizes))] if shot.lean else [slice(None)]
    scale = torch.tensor(shot.scales(len(noise)), device=device)[twice].view(-1, *[1] * (noise.dim() - 1))
    latents = noise.to(device) * scheduler.init_noise_sigma
    more = _extras(scheduler, sources or [torch.Generator().manual_seed(0) for _ in latents])
    # The scheduler counts on the CPU: it would wait for the GPU to look up where it is.
    calls, done = len(scheduler.timesteps), 0
    for index, (timestep, now) in enumerate(zip(scheduler.timesteps, scheduler.timesteps.to(device), strict=True)):
        prepare(index / calls)
        scaled = scheduler.scale_model_input(latents, timestep)
        rows = torch.cat((scaled[twice], scaled))
        answers = torch.cat([family.predict(rows[part], now, condition.pick(part), sizes[part]) for part in parts])
        negative, answer = answers.float().split((len(twice), len(scaled)))
        if len(twice):
            answer = answer.index_copy(0, twice, guided(negative, answer[twice], scale, shot.rescale))
        clean = partial(_clean, family, scheduler, scaled, answer, timestep)
        latents = scheduler.step(answer, timestep, latents, return_dict=False, **more)[0]
        if done < (done := (index + 1) * shot.steps // calls):
            on_step(done, clean)
    return latents


def _scheduler(family: Family, shot: Shot) -> Any:
    row = pick("sampling.sampler", shot.sampler)
    scheduler = resolve(row).from_config(family.scheduler, **dict(row.options))
    try:
        scheduler.set_timesteps(shot.steps)
    except ValueError as error:
        problem = f"{shot.sampler} cannot be drawn with {shot.steps} steps: {error}"
        raise UserError(problem, "steps", "Take fewer steps, or another sampler.") from None
    return scheduler


def _extras(scheduler: Any, sources: Sequence[torch.Generator]) -> dict[str, Any]:
    """Arguments of a scheduler's step: where its noise comes from, if it adds any."""
    return {"generator": list(sources)} if "generator" in inspect.signature(scheduler.step).parameters else {}


def _clean(family: Family, scheduler: Any, scaled: Tensor, answer: Tensor, timestep: Tensor) -> Tensor:
    """About what the model takes for the clean latents, from what it was given and answered."""
    signal = scheduler.alphas_cumprod[int(timestep)].item()
    keep, noise = signal**0.5, (1 - signal) ** 0.5
    if family.prediction == "v_prediction":
        return keep * scaled - noise * answer
    return (scaled - noise * answer) / max(keep, 1e-3)


def small(latents: Tensor, side: int = 32) -> Tensor:
    """Latents of a picture with its longer side at most `side` latent pixels: a thumbnail that decodes fast."""
    share = side / max(latents.shape[2:])
    size = [max(1, round(length * share)) for length in latents.shape[2:]]
    return latents if share >= 1 else F.interpolate(latents, size=size, mode="area")


def to_images(pixels: Tensor) -> list[Image.Image]:
    """[B, 3, H, W] in -1..1 -> RGB pictures."""
    rounded = (pixels * 0.5 + 0.5).clamp(0, 1).mul(255).round().byte()
    return [Image.fromarray(array.numpy()) for array in rounded.permute(0, 2, 3, 1).contiguous().cpu()]


def encode_pairs(family: Family, negative: str, prompts: Sequence[str]) -> list[tuple[Text, Text]]:
    """(negative, positive) of every prompt, both of one length, read as the preview reads them.

    A `<lora:...>` in them names nothing here, and is left out. What is too long is cut off: some prompts are captions,
    and no run should end for one.
    """
    against = encode_prompt(family, negative, cut=True)
    asked = [encode_prompt(family, take_tags(prompt)[0].strip(), cut=True) for prompt in prompts]
    return [level([(against, one)]) for one in asked]


@torch.no_grad()
def draw(family: Family, shot: Shot, texts: Sequence[tuple[Text, Text]], seed: int) -> list[Image.Image]:
    """A picture for each text, all from one seed and in one batch; one after the other where the shot is lean."""
    noise, _ = noise_sources(family, shot, [seed])
    if shot.lean:
        latents = [denoise(family, shot, noise, text, sources=noise_sources(family, shot, [seed])[1]) for text in texts]
    else:
        sources = noise_sources(family, shot, [seed] * len(texts))[1]
        latents = list(denoise(family, shot, noise.repeat(len(texts), 1, 1, 1), level(texts), sources=sources).split(1))
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
