"""What is made of noise, against hand-worked values."""

import torch

from trainer.objectives.noise import offset_noise, perturbed_noise, pyramid_noise, pyramid_sizes


def test_offset_noise_by_hand():
    noise = torch.tensor([[[1.0, -1.0]], [[0.0, 2.0]]])
    shifted = offset_noise(noise, torch.tensor([2.0, -10.0]).view(2, 1, 1), 0.1)
    torch.testing.assert_close(shifted, torch.tensor([[[1.2, -0.8]], [[-1.0, 1.0]]]))


def test_pyramid_noise_by_hand():
    """1 and -1, half of 4 on top: 3 and 1, whose standard deviation is the root of 2."""
    noise = pyramid_noise(torch.tensor([[[1.0, -1.0]]]), [torch.tensor([[[4.0]]])], discount=0.5)
    torch.testing.assert_close(noise, torch.tensor([[[3.0, 1.0]]]) / 2**0.5)


def test_levels_of_a_pyramid_shrink_to_a_side_of_one_and_stop():
    assert pyramid_sizes(64, 32, [2.0, 2.0, 4.0, 2.0, 2.0]) == [(32, 16), (16, 8), (4, 2), (2, 1)]
    assert pyramid_sizes(8, 8, [3.0]) == [(2, 2)]


def test_pyramid_noise_has_unit_deviation_and_more_of_it_in_large_areas():
    torch.manual_seed(0)
    plain = torch.randn(4, 64, 64)
    levels = [torch.randn(4, *size) for size in pyramid_sizes(64, 64, [3.0] * 6)]
    noise = pyramid_noise(plain, levels, 0.6)
    assert abs(noise.std() - 1) < 1e-4
    means = [torch.nn.functional.avg_pool2d(one, 16).std() for one in (plain, noise)]
    assert means[1] > 3 * means[0]


def test_perturbed_noise_by_hand():
    noise, other = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([-1.0, 3.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(perturbed_noise(noise, other, 0.1).flatten(), torch.tensor([0.9, 0.3]))
