"""Stateless draws."""

import torch

from trainer.data import draws


def test_a_draw_depends_on_its_place_only():
    once = draws.noise(1, draws.NOISE, 7, 3, (4, 2, 2))
    torch.randn(100)
    assert torch.equal(once, draws.noise(1, draws.NOISE, 7, 3, (4, 2, 2)))


def test_a_sample_does_not_depend_on_the_batch_size():
    assert torch.equal(draws.noise(1, draws.NOISE, 7, 2, (4,)), draws.noise(1, draws.NOISE, 7, 5, (4,))[:2])


def test_seed_kind_step_and_sample_all_matter():
    base = draws.noise(1, draws.NOISE, 7, 2, (8,))
    others = [
        draws.noise(2, draws.NOISE, 7, 2, (8,)),
        draws.noise(1, draws.LATENT, 7, 2, (8,)),
        draws.noise(1, draws.NOISE, 8, 2, (8,)),
    ]
    assert not any(torch.equal(base, other) for other in others)
    assert not torch.equal(base[0], base[1])


def test_noise_is_standard_normal_and_uniform_is_uniform():
    noise = draws.noise(3, draws.NOISE, 0, 64, (4, 16, 16))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    values = torch.cat([draws.uniform(3, draws.TIMESTEP, step, 8) for step in range(500)])
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02 and abs(values.var() - 1 / 12) < 0.01
