"""The autoencoder: AutoencoderKL, factor 8, four latent channels, 3.9 M parameters.

L1 and edge losses throughout; in the last third the encoder rests and a patch discriminator sharpens the decoder
(VQGAN: Esser et al., 2021, https://arxiv.org/abs/2012.09841; latent diffusion: Rombach et al., 2022).
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from presets.demo.make.training import Average, TimeBox, adamw, captured, compiled, half_precision, set_rate, ticks

log = logging.getLogger(__name__)

BATCH = 64
RATE = 8e-4
JUDGE_RATE = 4e-4
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 0.5
ADVERSARY_WEIGHT = 0.2
ADVERSARY_FROM = 0.66  # share of the time


def build() -> AutoencoderKL:
    """The untrained autoencoder for 128 px pictures."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=128,
    )


def discriminator() -> nn.Sequential:
    """Judges overlapping patches of 34 pixels: (n, 3, 128, 128) -> (n, 1, 30, 30) (Isola et al., 2017)."""

    def block(channels: int, out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 4, stride, 1), nn.GroupNorm(16, out), nn.LeakyReLU(0.2)]

    first = [nn.Conv2d(3, 48, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*first, *block(48, 96, 2), *block(96, 128, 1), nn.Conv2d(128, 1, 4, 1, 1))


def edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours, across and down."""
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def reconstruction_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 of the pixels plus L1 of their differences at three scales, which is what keeps strokes sharp."""
    loss = F.l1_loss(made, true)
    for _ in range(3):
        loss = loss + EDGE_WEIGHT * sum(F.l1_loss(a, b) for a, b in zip(edges(made), edges(true), strict=True))
        made, true = F.avg_pool2d(made, 2), F.avg_pool2d(true, 2)
    return loss


def batch_of(pictures: Tensor) -> Tensor:
    """A random batch as (n, 3, h, w) in -1..1, mirrored and with its colour channels reordered half the time."""
    device = pictures.device
    rows = torch.randint(len(pictures), (min(BATCH, len(pictures)),), device=device)
    batch = pictures[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
    order = torch.rand(len(batch), 3, device=device).argsort(1)  # six orders: as many palettes from one picture
    keep = torch.rand(len(batch), 1, device=device) < 0.5
    order = torch.where(keep, torch.arange(3, device=device), order)
    batch = batch.gather(1, order[:, :, None, None].expand_as(batch))
    mirror = torch.rand(len(batch), 1, 1, 1, device=device) < 0.5
    return torch.where(mirror, batch.flip(-1), batch)


class Trainer:
    """Two kinds of step on uint8 pictures (n, h, w, 3) that lie on the device: `learn`, and later `sharpen`."""

    def __init__(self, vae: AutoencoderKL, pictures: Tensor, compile: bool) -> None:
        self.vae, self.pictures = vae, pictures
        self.encoder, self.decoder = compiled(vae.encoder, compile), compiled(vae.decoder, compile)
        self.judge = discriminator().to(pictures.device)
        self.average = Average(vae.parameters(), most=0.999)
        self.optimizer = adamw(vae.parameters(), RATE)
        self.drawing_parts = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
        self.sharpener, self.judge_optimizer = (
            adamw(self.drawing_parts, RATE),
            adamw(self.judge.parameters(), JUDGE_RATE, 0),
        )
        self.loss = torch.ones((), device=pictures.device)

    def posterior(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents."""
        mean, logvar = self.vae.quant_conv(self.encoder(pictures)).float().chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures in -1..1."""
        return self.decoder(self.vae.post_quant_conv(latents)).float()

    def learn(self) -> None:
        """Encoder and decoder on the reconstruction loss and a small KL term."""
        self.optimizer.zero_grad(set_to_none=True)
        true = batch_of(self.pictures)
        with half_precision(true.device):
            mean, logvar = self.posterior(true)
            made = self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean))
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction_loss(made, true)
        (loss + KL_WEIGHT * kl).backward()
        self.finish(self.optimizer, [*self.vae.parameters()], loss)

    def sharpen(self) -> None:
        """The encoder rests, so latents stay what they are; the decoder also learns to pass for real.

        The adversary's pull on the picture is scaled to the reconstruction's, as VQGAN does on the last layer.
        """
        self.sharpener.zero_grad(set_to_none=True)
        true = batch_of(self.pictures)
        with half_precision(true.device):
            mean, logvar = (part.detach() for part in self.posterior(true))
            made = self.decode((mean + (0.5 * logvar).exp() * torch.randn_like(mean)).requires_grad_())
        seen = made.detach().requires_grad_()
        loss = reconstruction_loss(seen, true)
        (pull,) = torch.autograd.grad(loss, seen)
        with half_precision(true.device):
            verdict = self.judge(seen).float()
        (push,) = torch.autograd.grad(-verdict.mean(), seen)
        made.backward(pull + ADVERSARY_WEIGHT * pull.norm() / (push.norm() + 1e-8) * push)
        self.finish(self.sharpener, self.drawing_parts, loss)
        self.train_judge(seen.detach(), true)

    def train_judge(self, made: Tensor, true: Tensor) -> None:
        """Hinge loss."""
        self.judge_optimizer.zero_grad(set_to_none=True)
        with half_precision(true.device):
            fake, real = self.judge(made).float(), self.judge(true).float()
        (F.relu(1 + fake).mean() + F.relu(1 - real).mean()).backward()
        self.judge_optimizer.step()

    def finish(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor) -> None:
        """Clip, step, average, note the loss."""
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        self.average.update()
        self.loss.lerp_(loss.detach(), 0.02)

    def run(
        self, step: Callable[[], None], optimizer: torch.optim.Optimizer, box: TimeBox, rate: Callable[[], float]
    ) -> int:
        """Repeat a step until the box closes; the number of steps made."""
        count = 0
        for count in ticks(box, 50, lambda done: log.info("vae step %d loss %.4f", done, self.loss.item())):  # noqa: B007
            set_rate(optimizer, RATE * rate())
            self.average.tick()
            step()
        return count


def train(trainer: Trainer, seconds: float) -> dict[str, float]:
    """Train for about that long, compilation and capture aside; leaves the averaged weights in the model."""
    device = trainer.loss.device
    set_rate(trainer.optimizer, 0)  # capture makes a few steps of its own
    learn = captured(trainer.learn, device)
    box = TimeBox(seconds * ADVERSARY_FROM)
    steps = trainer.run(learn, trainer.optimizer, box, lambda: min(50 * box.share, 0.3 + 0.7 * box.rate()))
    set_rate(trainer.sharpener, 0)
    sharpen = captured(trainer.sharpen, device)
    last = TimeBox(seconds * (1 - ADVERSARY_FROM))
    steps += trainer.run(sharpen, trainer.sharpener, last, lambda: 0.3 * last.rate())
    trainer.average.swap()
    return {"steps": steps, "seconds": round(box.used), "loss": round(trainer.loss.item(), 4)}


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of uint8 pictures (n, h, w, 3), maybe on disk: two (n, 4, h/8, w/8)."""
    parts = []
    for first in range(0, len(pictures), 512):
        chunk = torch.from_numpy(np.array(pictures[first : first + 512]))
        batch = chunk.to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with half_precision(vae.device):
            posterior = vae.encode(batch).latent_dist
        parts.append((posterior.mean.float(), posterior.std.float()))
    means, stds = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def centre(vae: AutoencoderKL, means: Tensor) -> None:
    """Shift each latent channel to mean 0 and one common spread, and set scaling_factor to one over that spread.

    The Stable Diffusion pipeline knows a scale and no shift. Most of our pictures have a white background, so the
    latents' mean is far from 0 and the noisiest step would still show it; the 1x1 convolutions on both sides of the
    latents take the shift in.
    """
    shift, spread = means.mean((0, 2, 3)), means.std((0, 2, 3))
    common = means.std()
    scale = common / spread  # (4,)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:4] *= scale[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - shift) * scale
    into.bias[4:] += 2 * scale.log()
    out.bias += (out.weight[:, :, 0, 0] * shift).sum(1)
    out.weight /= scale[None, :, None, None]
    vae.register_to_config(scaling_factor=round(1 / common.item(), 5))
