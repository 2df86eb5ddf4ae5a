"""Micro-step number -> batch: latents, noise, timesteps, captions and weights, drawn without any state."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.contract.config import RunConfig
from trainer.data import draws
from trainer.data.cache import Cache
from trainer.data.noising import Noising
from trainer.data.order import Order
from trainer.data.views import CachedPicture, View
from trainer.protocols import Batch, Text


@dataclass
class Batches:
    """The batches of a run.

    Attributes:
        cache: the pictures.
        texts: the row of every text in the run's table of captions.
        order: which pictures make up a micro-step.
        config: seed, caption dropout, objective, what masks count.
        timesteps: how many the base has.
        device: where batches go.
        host: the table of captions where a batch brings its own rows of it, see `Words`.
    """

    cache: Cache
    texts: Mapping[str, int]
    order: Order
    config: RunConfig
    timesteps: int
    device: torch.device
    host: Text | None = None

    def __post_init__(self) -> None:
        rows, order = self.cache.pictures, self.order
        self._noising = Noising(self.config, self.timesteps, order.first, order.whole)
        self._rows = [torch.tensor([self.texts[text] for text in row.texts]) for row in rows]
        # What never varies is not drawn, and what every picture counts alike is left to the plain mean.
        self._cropped = any(len(row.views) > row.sides for row in rows)
        self._worded = any(len(row.texts) > 1 for row in rows)
        self._masked = any(view.mask for row in rows for view in row.views)
        self._weighed = self._masked or (self.config.dataset.regularisation_weight != 1 and any(r.prior for r in rows))

    def batch(self, micro_step: int) -> Batch:
        """Return micro-step `micro_step`, counted from 0 over the whole run."""
        chosen = self.order.batch(micro_step)
        pictures = [self.cache.pictures[number] for number in chosen]
        views = self._views(micro_step, pictures)
        found = [self.cache.latents.posterior(view) for view in views]
        mean, std = (torch.stack([getattr(posterior, part) for posterior in found]) for part in ("mean", "std"))
        shape = tuple(mean.shape[1:])
        clean = mean + std * self._normal(draws.LATENT, micro_step, shape)
        noise, steps = self._noising.noise(micro_step, shape), self._noising.timesteps(micro_step)
        sizes = torch.tensor([view.sizes for view in views], dtype=torch.float32)
        weight = self._weight(pictures, views) if self._weighed else None
        added = self._noising.added(micro_step, noise)
        captions, prior = self._captions(micro_step, chosen), self._prior(pictures)
        texts = (None, None) if self.host is None else self.host.pick(captions)
        batch = Batch(clean, noise, steps, captions, sizes, weight, *texts, added, prior)
        return Batch(*(part if part is None else self._send(part) for part in batch))

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device without waiting for it: from pinned memory, which torch keeps until the copy is made."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _views(self, micro_step: int, pictures: list[CachedPicture]) -> list[View]:
        flips = self._uniform(draws.FLIP, micro_step)
        crops = self._uniform(draws.CROP, micro_step) if self._cropped else torch.zeros(len(pictures))
        views = []
        for picture, flip, crop in zip(pictures, flips.tolist(), crops.tolist(), strict=True):
            crop_number = int(crop * (len(picture.views) // picture.sides))
            views.append(picture.views[crop_number * picture.sides + int(flip * picture.sides)])
        return views

    def _captions(self, micro_step: int, chosen: tuple[int, ...]) -> Tensor:
        words = self._uniform(draws.WORDING, micro_step) if self._worded else torch.zeros(len(chosen))
        rows = [self._rows[number] for number in chosen]
        picked = torch.stack([row[int(at * len(row))] for row, at in zip(rows, words.tolist(), strict=True)])
        dropped = self._uniform(draws.CAPTION, micro_step) < self.config.dataset.caption_dropout
        return torch.where(dropped, self.texts[""], picked)

    def _weight(self, pictures: list[CachedPicture], views: list[View]) -> Tensor:
        """[B, 1, h, w] where a picture of the run has a mask, else [B, 1, 1, 1]."""
        options = self.config.dataset
        counts = torch.tensor([options.regularisation_weight if picture.prior else 1.0 for picture in pictures])
        counts = counts.view(-1, 1, 1, 1)
        if not self._masked:
            return counts
        shape = self.cache.latents.posterior(views[0]).mean.shape[1:]
        masks = [self.cache.latents.mask(view) if view.mask else torch.ones(shape) for view in views]
        return torch.stack([normalised(mask, options.mask_floor) for mask in masks])[:, None] * counts

    def _prior(self, pictures: list[CachedPicture]) -> Tensor | None:
        """None without pictures of regularisation, so that such a batch costs no second forward pass."""
        if self.config.objective.prior == "pictures" or not any(picture.prior for picture in pictures):
            return None
        return torch.tensor([picture.prior for picture in pictures]).view(-1, 1, 1, 1)

    def _normal(self, what: int, micro_step: int, shape: tuple[int, ...]) -> Tensor:
        return draws.noise(self.config.training.seed, what, micro_step, self.order.batch_size, shape, self.order.first)

    def _uniform(self, what: int, micro_step: int) -> Tensor:
        return draws.uniform(self.config.training.seed, what, micro_step, self.order.batch_size, self.order.first)


def normalised(mask: Tensor, floor: float) -> Tensor:
    """What each latent pixel counts, with a mean of 1: a small mask teaches as fast as a large one.

    Args:
        mask: [h, w], 0 to 1; one that is black all over counts as none.
        floor: what a black pixel counts against a white one.
    """
    weight = floor + (1 - floor) * mask
    mean = weight.mean()
    return weight / mean if mean > 0 else torch.ones_like(mask)
