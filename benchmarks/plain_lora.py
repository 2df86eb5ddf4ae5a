"""PEFT's LoRA in a plain diffusers loop, in fp32: what one would write without a trainer. And the judge of its files.

Shapes: N pictures, B of a batch, C latent channels, h x w latent size, L tokens, D width of the text, K draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from torch import Tensor

from trainer.contract.config import RunConfig
from trainer.contract.home import demo_folder

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
BATCH = 8  # pictures that are judged at once


@dataclass(frozen=True)
class Shown:
    """A folder of pictures as the base sees it.

    Attributes:
        mean, std: [N, C, h, w] of the VAE's posterior, scaled.
        text: [N, L, D] of the captions.
        empty: [L, D] of the empty caption.
    """

    mean: Tensor
    std: Tensor
    text: Tensor
    empty: Tensor


def open_base() -> StableDiffusionPipeline:
    """The embedded base in fp32, frozen."""
    pipe = StableDiffusionPipeline.from_pretrained(demo_folder() / "base", dtype=torch.float32)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False).eval()
    return pipe


@torch.no_grad()
def see(pipe: StableDiffusionPipeline, folder: Path) -> Shown:
    """Encode a folder of pictures with captions beside them."""
    files = sorted(folder.glob("*.png"))
    arrays = [np.asarray(Image.open(file).convert("RGB"), np.float32) / 127.5 - 1 for file in files]
    found = pipe.vae.encode(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)).latent_dist
    scale = pipe.vae.config.scaling_factor
    captions = [file.with_suffix(".txt").read_text("utf-8").strip() for file in files]
    ids = pipe.tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = pipe.text_encoder(ids)[0]
    return Shown(found.mean * scale, found.std * scale, text[:-1], text[-1])


def train(config: RunConfig, folder: Path, out: Path) -> Path:
    """Train as a config says, of which it knows what is usual: rank, alpha, rate, steps, batch, caption dropout, seed.

    Args:
        config: of a run of ours with the same settings.
        folder: of the pictures.
        out: folder for the file.

    Returns:
        the file.
    """
    settings, steps = config.optimizer, config.training.steps
    torch.manual_seed(config.training.seed)
    pipe = open_base()
    shown, unet, noising = see(pipe, folder), pipe.unet, DDPMScheduler.from_config(pipe.scheduler.config)
    unet.add_adapter(LoraConfig(r=config.adapter.rank, lora_alpha=config.adapter.alpha_value, target_modules=TARGETS))
    trained = [weight for weight in unet.parameters() if weight.requires_grad]
    betas = (settings.beta1, settings.beta2)
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, betas, settings.epsilon, settings.weight_decay)
    warmup = round(config.schedule.warmup * steps)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    for _, rows in zip(range(steps), batches(len(shown.mean), config.training.batch_size), strict=False):
        clean = shown.mean[rows] + shown.std[rows] * torch.randn_like(shown.std[rows])
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, noising.config.num_train_timesteps, (len(rows),))
        dropped = (torch.rand(len(rows)) < config.dataset.caption_dropout)[:, None, None]
        text = torch.where(dropped, shown.empty, shown.text[rows])
        answer = unet(noising.add_noise(clean, noise, timesteps), timesteps, text).sample
        F.mse_loss(answer, noise).backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return save(unet, out)


def save(unet: UNet2DConditionModel, out: Path) -> Path:
    """Write a UNet's adapter, whose alpha is its rank, under PEFT's names.

    diffusers' example goes through `convert_state_dict_to_diffusers`, which mixes two kinds of names where proj layers
    learn too: diffusers 0.42 then reads the file without its attention layers, with no more than a warning.
    """
    StableDiffusionPipeline.save_lora_weights(out, get_peft_model_state_dict(unet), weight_name="plain.safetensors")
    return out / "plain.safetensors"


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Rows of batches without end: every epoch shuffled anew, an incomplete batch at its end dropped."""
    while True:
        yield from torch.randperm(count)[: count - count % size].view(-1, size)


class Judge:
    """The loss on pictures that nobody trained on, at fixed noise and timesteps; the same for every file.

    Args:
        folder: of the pictures.
        draws: of each picture, their timesteps spread evenly over all.
        seed: of noise and timesteps.
    """

    def __init__(self, folder: Path, draws: int, seed: int) -> None:
        self.pipe, generator = open_base(), torch.Generator().manual_seed(seed)
        self.shown, self.noising = see(self.pipe, folder), DDPMScheduler.from_config(self.pipe.scheduler.config)
        shape, count = (len(self.shown.mean), draws), self.noising.config.num_train_timesteps
        at = (torch.arange(draws) + torch.rand(shape, generator=generator)) / draws
        self.timesteps = (at * count).long().clamp(max=count - 1)
        self.noise = torch.randn(*shape, *self.shown.mean.shape[1:], generator=generator)

    @torch.no_grad()
    def losses(self, file: Path | None) -> Tensor:
        """[N] mean squared error of each picture with an adapter file; None is the base."""
        if file is not None:
            self.pipe.load_lora_weights(file)
        found = torch.stack([self._of_draw(number) for number in range(self.noise.shape[1])])
        if file is not None:
            self.pipe.unload_lora_weights()
        return found.mean(0)

    def _of_draw(self, number: int) -> Tensor:
        errors = []
        for rows in torch.arange(len(self.noise)).split(BATCH):
            noise, timesteps = self.noise[rows, number], self.timesteps[rows, number]
            noisy = self.noising.add_noise(self.shown.mean[rows], noise, timesteps)
            answer = self.pipe.unet(noisy, timesteps, self.shown.text[rows]).sample
            errors.append((answer - noise).square().mean((1, 2, 3)))
        return torch.cat(errors)
