"""Noise and timesteps of a micro-step, as the objective wants them, drawn without any state.

Shapes: B samples of this process, C latent channels, h x w latent size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.contract.catalog import pick, resolve
from trainer.contract.config import RunConfig
from trainer.data import draws
from trainer.objectives.noise import LEAST, MOST, offset_noise, perturbed_noise, pyramid_noise, pyramid_sizes
from trainer.objectives.timesteps import in_range, stratified


@dataclass
class Noising:
    """What a run draws for its objective.

    Attributes:
        config: objective, seed, batch size, accumulation.
        count: timesteps that the base has.
        first: number of this process's first sample in the batch of all processes.
        whole: samples in the batch of all processes.
    """

    config: RunConfig
    count: int
    first: int
    whole: int

    def __post_init__(self) -> None:
        self.options, self.training = self.config.objective, self.config.training
        self._range = self.options.timestep_range(self.count)
        self._spread = resolve(pick("objective.timesteps", self.options.timesteps))

    def timesteps(self, micro_step: int) -> Tensor:
        """[B] int64."""
        training = self.training
        at = draws.uniform(training.seed, draws.TIMESTEP, micro_step, training.batch_size, self.first)
        if self.options.stratified:
            at = self._stratified(at, micro_step)
        return in_range(self._spread(at, self.options), *self._range)

    def _stratified(self, at: Tensor, micro_step: int) -> Tensor:
        """Each sample of an optimiser step in a part of its own, whichever micro-step and process it is in."""
        step, micro = divmod(micro_step, self.training.accumulation)
        count, first = self.whole * self.training.accumulation, micro * self.whole + self.first
        strata = draws.permutation(self.training.seed, count, step, what=draws.STRATUM)
        return stratified(at, torch.tensor(strata[first : first + len(at)]), count)

    def noise(self, micro_step: int, shape: tuple[int, ...]) -> Tensor:
        """[B, C, h, w] float32, the noise that is to be found; `shape` is (C, h, w)."""
        options = self.options
        noise = self._normal(draws.NOISE, micro_step, shape)
        if options.noise_offset:
            shared = self._normal(draws.OFFSET, micro_step, (shape[0], 1, 1))
            noise = offset_noise(noise, shared, options.noise_offset)
        if options.pyramid_iterations:
            places = enumerate(noise, start=self.first)
            noise = torch.stack([self._pyramid(one, micro_step, index) for index, one in places])
        return noise

    def _pyramid(self, noise: Tensor, micro_step: int, index: int) -> Tensor:
        generator = draws.generator(self.training.seed, draws.PYRAMID, micro_step, self.first + index)
        factors = torch.rand(self.options.pyramid_iterations, generator=generator) * (MOST - LEAST) + LEAST
        channels, height, width = noise.shape
        sizes = pyramid_sizes(height, width, factors.tolist())
        levels = [torch.randn(channels, *size, generator=generator) for size in sizes]
        return pyramid_noise(noise, levels, self.options.pyramid_discount)

    def added(self, micro_step: int, noise: Tensor) -> Tensor | None:
        """[B, C, h, w], the noise that is put into the input; None where it is `noise`."""
        strength = self.options.input_perturbation
        if not strength:
            return None
        return perturbed_noise(noise, self._normal(draws.PERTURBATION, micro_step, tuple(noise.shape[1:])), strength)

    def _normal(self, what: int, micro_step: int, shape: tuple[int, ...]) -> Tensor:
        return draws.noise(self.training.seed, what, micro_step, self.training.batch_size, shape, self.first)
