"""The denoiser and its text encoder, trained together: UNet2DConditionModel 13.4 M, CLIPTextModel 1.6 M parameters.

Epsilon prediction (Ho et al., 2020) with min-SNR-5 weights (Hang et al., 2023, https://arxiv.org/abs/2303.09556),
one caption in ten empty for classifier-free guidance (Ho & Salimans, 2022), averaged weights.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from presets.demo.make.tokenizer import LENGTH, VOCAB_SIZE
from presets.demo.make.training import Average, TimeBox, adamw, captured, compiled, half_precision, set_rate, ticks

log = logging.getLogger(__name__)

BATCH = 256
RATE = 1e-3
EMPTY_CAPTIONS = 0.1
MIN_SNR_GAMMA = 5.0
WIDTH = 160  # of the text embeddings


def build_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1's layout, with three levels, one layer a block and four heads."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(96, 160, 224),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # means the number of heads, as in Stable Diffusion 1's own config
        norm_num_groups=32,
    )


def build_text_encoder() -> CLIPTextModel:
    """CLIP's text model with four layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=5,
            max_position_embeddings=LENGTH,
            bos_token_id=VOCAB_SIZE - 2,
            eos_token_id=VOCAB_SIZE - 1,
            pad_token_id=VOCAB_SIZE - 1,
        )
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion 1's noise schedule and a solver that needs about twenty steps."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        algorithm_type="dpmsolver++",
        steps_offset=1,
        timestep_spacing="leading",
        lambda_min_clipped=-20.0,  # clips nothing; the default, minus infinity, cannot be written as JSON
    )


@dataclass(frozen=True)
class Corpus:
    """All that training reads, on the device: scaled latents (n, 4, 16, 16) as mean and std, and token ids (n, 77)."""

    mean: Tensor
    std: Tensor
    tokens: Tensor
    empty: Tensor  # (77,): the ids of the empty caption


class Trainer:
    """One training step, its optimiser and the moving average: all that a pause must keep."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, corpus: Corpus, compile: bool) -> None:
        self.unet, self.text_encoder, self.corpus = unet, text_encoder, corpus
        self.denoise, self.read = compiled(unet, compile), compiled(text_encoder, compile)
        self.parameters = [*unet.parameters(), *text_encoder.parameters()]
        self.optimizer, self.average = adamw(self.parameters, RATE), Average(self.parameters)
        kept = build_scheduler().alphas_cumprod.to(corpus.mean.device)
        snr = kept / (1 - kept)
        self.signal, self.noise, self.weight = kept.sqrt(), (1 - kept).sqrt(), snr.clamp(max=MIN_SNR_GAMMA) / snr
        self.loss = torch.ones((), device=corpus.mean.device)
        self.steps, self.seconds = 0, 0.0

    def step(self) -> None:
        """Noise a random batch, predict the noise, move the weights; all draws on the device, for the CUDA graph."""
        self.optimizer.zero_grad(set_to_none=True)
        data, device = self.corpus, self.loss.device
        rows = torch.randint(len(data.mean), (min(BATCH, len(data.mean)),), device=device)
        clean = data.mean[rows].float() + data.std[rows].float() * torch.randn(
            rows.shape[0], *data.mean.shape[1:], device=device
        )
        noise, times = torch.randn_like(clean), torch.randint(len(self.weight), rows.shape, device=device)
        noisy = self.signal[times][:, None, None, None] * clean + self.noise[times][:, None, None, None] * noise
        unconditional = torch.rand(rows.shape, device=device) < EMPTY_CAPTIONS
        tokens = torch.where(unconditional[:, None], data.empty, data.tokens[rows])
        with half_precision(device):
            predicted = self.denoise(noisy, times, self.read(tokens)[0]).sample
        loss = ((predicted.float() - noise).square().mean((1, 2, 3)) * self.weight[times]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update()
        self.loss.lerp_(loss.detach(), 0.01)

    def save(self, path: Path) -> None:
        """Write everything needed to go on later."""
        models = [self.unet.state_dict(), self.text_encoder.state_dict()]
        state = {"models": models, "optimizer": self.optimizer.state_dict(), "average": self.average.values}
        torch.save(state | {"steps": self.steps, "seconds": self.seconds, "loss": self.loss}, path)

    def load(self, path: Path) -> None:
        """Go on from a file."""
        state = torch.load(path, map_location=self.loss.device, weights_only=True)
        for model, weights in zip((self.unet, self.text_encoder), state["models"], strict=True):
            model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        for mine, kept in zip(self.average.values, state["average"], strict=True):
            mine.copy_(kept)
        self.steps = self.average.step = state["steps"]
        self.seconds = state["seconds"]
        self.loss.copy_(state["loss"])


def train(trainer: Trainer, seconds: float, pause_at: float, show: Callable[[str], None], every: float = 120) -> None:
    """Train until `seconds` are used, compilation and capture aside, or the clock says pause.

    Every so many seconds calls show(name) with the averaged weights in place.
    """
    set_rate(trainer.optimizer, 0)  # capture makes a few steps of its own
    trainer.average.tick()
    go = captured(trainer.step, trainer.loss.device)
    box = TimeBox(seconds, trainer.seconds, pause_at)
    shown = box.used

    def report(count: int) -> None:
        log.info("unet step %d loss %.4f, %.0f s", count, trainer.loss.item(), box.used)

    for step in ticks(box, 100, report, trainer.steps):
        trainer.steps = step
        set_rate(trainer.optimizer, RATE * box.rate())
        trainer.average.tick()
        go()
        if box.used - shown > every:
            shown = box.used
            trainer.average.swap()
            show(f"unet-{shown:04.0f}s")
            trainer.average.swap()
    trainer.seconds = box.used
