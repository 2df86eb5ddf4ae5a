"""The objective of a run: every choice made, as functions of a batch."""

import torch
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.config import ObjectiveSection
from trainer.objectives.diffusion import add_noise, target
from trainer.objectives.losses import weighted_mean
from trainer.protocols import Batch


class Objective:
    """What a run learns.

    Attributes:
        signal: [T] alphas_cumprod on the device; with a zero terminal SNR where the base has one, so that everything
            derived from it knows.
    """

    def __init__(self, options: ObjectiveSection, prediction: str, signal: Tensor) -> None:
        self.options, self.prediction, self.signal = options, prediction, signal
        loss = pick("objective.loss", options.loss)
        self._weight = resolve(pick("objective.weighting", options.weighting))
        self._error, self._bends = resolve(loss), "objective.huber_c" in loss.reads
        self._threshold = resolve(pick("objective.huber_schedule", options.huber_schedule))

    def noisy(self, batch: Batch) -> Tensor:
        """The UNet's input, [B, C, h, w]."""
        added = batch.noise if batch.added is None else batch.added
        return add_noise(batch.clean, added, self.signal[batch.timesteps])

    def plain_error(self, answer: Tensor, batch: Batch) -> Tensor:
        """[B] mean squared error against the noise or v, whatever the objective makes of it."""
        wanted = target(self.prediction, batch.clean, batch.noise, self.signal[batch.timesteps])
        return (answer.float() - wanted.float()).square().mean(dim=(1, 2, 3))

    def loss(self, answer: Tensor, batch: Batch, before: Tensor | None) -> Tensor:
        """Mean weighted error of a micro-step, a scalar.

        Args:
            answer: [B, C, h, w].
            batch: that it answers.
            before: what the base answers without the adapter, [B, C, h, w]; where `batch.prior` says so, that is wanted
                (learning without forgetting, Li & Hoiem, arXiv 1606.09282).
        """
        options, signal = self.options, self.signal[batch.timesteps]
        wanted = target(self.prediction, batch.clean, batch.noise, signal)
        if before is not None:
            wanted = torch.where(batch.prior, before.to(wanted.dtype), wanted)
        threshold = self._bend(batch.timesteps, signal) if self._bends else None
        error = self._error(answer.float(), wanted.float(), threshold)
        return weighted_mean(error, self._weight(signal, options.snr_gamma, self.prediction), batch.weight)

    def _bend(self, timesteps: Tensor, signal: Tensor) -> Tensor:
        """[B, 1, 1, 1], the error at which a Huber loss turns from L2 to L1."""
        at = self._threshold(timesteps, signal, len(self.signal), self.options.huber_c)
        return (at * self.options.huber_scale).view(-1, 1, 1, 1)
