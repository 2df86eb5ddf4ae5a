"""Micro-step number -> batch: latents, noise, timesteps and captions, drawn without any state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.contract.config import RunConfig
from trainer.data import draws
from trainer.data.cache import CachedPicture
from trainer.data.order import Order
from trainer.protocols import Batch


@dataclass
class Batches:
    """The batches of a run.

    Attributes:
        pictures: the cached set.
        order: which of them make up a micro-step.
        config: seed, caption dropout, noise offset.
        timesteps: how many the base has.
        device: where batches go.
    """

    pictures: Sequence[CachedPicture]
    order: Order
    config: RunConfig
    timesteps: int
    device: torch.device
    _sizes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._sizes = torch.tensor([picture.sizes for picture in self.pictures], dtype=torch.float32)

    def batch(self, micro_step: int) -> Batch:
        """Return micro-step `micro_step`, counted from 0 over the whole run."""
        seed, chosen = self.config.training.seed, self.order.batch(micro_step)
        count, shape = len(chosen), tuple(self.pictures[chosen[0]].views[0].mean.shape)
        flips = draws.uniform(seed, draws.FLIP, micro_step, count)
        views = [self._view(picture, float(flip)) for picture, flip in zip(chosen, flips, strict=True)]
        mean, std = (torch.stack([getattr(view, part) for view in views]) for part in ("mean", "std"))
        clean = mean + std * draws.noise(seed, draws.LATENT, micro_step, count, shape)
        noise = self._noise(micro_step, count, shape)
        steps = (draws.uniform(seed, draws.TIMESTEP, micro_step, count) * self.timesteps).long()
        dropped = draws.uniform(seed, draws.CAPTION, micro_step, count) < self.config.dataset.caption_dropout
        picked = torch.tensor(chosen)
        rows = torch.where(dropped, len(self.pictures), picked)
        return Batch(*(self._send(part) for part in (clean, noise, steps, rows, self._sizes[picked])))

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device without waiting for it: from pinned memory, which torch keeps until the copy is made."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _view(self, picture: int, flip: float):
        views = self.pictures[picture].views
        return views[int(flip * len(views))]

    def _noise(self, micro_step: int, count: int, shape: tuple[int, ...]) -> Tensor:
        seed, offset = self.config.training.seed, self.config.objective.noise_offset
        noise = draws.noise(seed, draws.NOISE, micro_step, count, shape)
        if offset:  # https://www.crosslabs.org/blog/diffusion-with-offset-noise
            noise = noise + offset * draws.noise(seed, draws.OFFSET, micro_step, count, (shape[0], 1, 1))
        return noise
