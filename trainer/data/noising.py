"""Noise and timesteps of a micro-step, as the objective wants them, drawn without any state.

Shapes: B batch, C latent channels, h x w latent size.
"""

import torch
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.config import ObjectiveSection, TrainingSection
from trainer.data import draws
from trainer.objectives.noise import LEAST, MOST, offset_noise, perturbed_noise, pyramid_noise, pyramid_sizes
from trainer.objectives.timesteps import in_range, stratified


class Noising:
    """What a run draws for its objective.

    Args:
        options: of the objective.
        training: seed, batch size and accumulation.
        timesteps: how many the base has.
        first: number of this process's first sample in the batch of all processes.
    """

    def __init__(self, options: ObjectiveSection, training: TrainingSection, timesteps: int, first: int = 0) -> None:
        self.options, self.training, self.first = options, training, first
        self.range = options.timestep_range(timesteps)
        self._spread = resolve(pick("objective.timesteps", options.timesteps))

    def timesteps(self, micro_step: int, batch: int) -> Tensor:
        """[B] int64."""
        at = draws.uniform(self.training.seed, draws.TIMESTEP, micro_step, batch, self.first)
        if self.options.stratified:
            at = self._stratified(at, micro_step)
        return in_range(self._spread(at, self.options), *self.range)

    def _stratified(self, at: Tensor, micro_step: int) -> Tensor:
        """Each sample of an optimiser step in a part of its own, whichever micro-step it is in."""
        step, micro = divmod(micro_step, self.training.accumulation)
        count = len(at) * self.training.accumulation
        strata = draws.permutation(self.training.seed, count, step, what=draws.STRATUM)
        return stratified(at, torch.tensor(strata[micro * len(at) : (micro + 1) * len(at)]), count)

    def noise(self, micro_step: int, batch: int, shape: tuple[int, ...]) -> Tensor:
        """[B, C, h, w] float32, the noise that is to be found; `shape` is (C, h, w)."""
        options, seed = self.options, self.training.seed
        noise = draws.noise(seed, draws.NOISE, micro_step, batch, shape, self.first)
        if options.noise_offset:
            shared = draws.noise(seed, draws.OFFSET, micro_step, batch, (shape[0], 1, 1), self.first)
            noise = offset_noise(noise, shared, options.noise_offset)
        if options.pyramid_iterations:
            noise = torch.stack([self._pyramid(one, micro_step, index) for index, one in enumerate(noise)])
        return noise

    def _pyramid(self, noise: Tensor, micro_step: int, index: int) -> Tensor:
        generator = draws.generator(self.training.seed, draws.PYRAMID, micro_step, self.first + index)
        factors = torch.rand(self.options.pyramid_iterations, generator=generator) * (MOST - LEAST) + LEAST
        channels, height, width = noise.shape
        sizes = pyramid_sizes(height, width, factors.tolist())
        levels = [torch.randn(channels, *size, generator=generator) for size in sizes]
        return pyramid_noise(noise, levels, self.options.pyramid_discount)

    def added(self, micro_step: int, noise: Tensor) -> Tensor | None:
        """[B, C, h, w], the noise that is put into the input; None where it is that of `noise`."""
        strength = self.options.input_perturbation
        if not strength:
            return None
        seed, count, shape = self.training.seed, len(noise), tuple(noise.shape[1:])
        other = draws.noise(seed, draws.PERTURBATION, micro_step, count, shape, self.first)
        return perturbed_noise(noise, other, strength)
