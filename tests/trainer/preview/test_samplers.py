"""Every sampler of the catalogue: draws, by each picture's own seed, with progress and guidance as they are meant."""

import pytest
import torch

from tests.trainer.preview.test_mixer import ENGINE
from trainer.contract.catalog import SAMPLERS
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.families.locate import load_family
from trainer.protocols import Text
from trainer.sampling import Shot, denoise, guided, noise_sources, small

RANDOM = {"Euler a", "DPM++ 2M SDE", "DPM++ 2M SDE Karras", "DPM++ SDE Karras", "LCM"}


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), ENGINE)


@torch.no_grad()
def drawn(family, sampler: str, seeds: list[int], steps: int = 4, on_step=lambda step, clean: None) -> torch.Tensor:
    shot = Shot(64, 64, steps, 3.0, sampler)
    both = family.encode_tokens(family.tokenize(["", "a cat"]))
    negative, positive = (Text.join([both.pick(slice(i, i + 1))] * len(seeds)) for i in (0, 1))
    noise, sources = noise_sources(family, shot, seeds)
    return denoise(family, shot, noise, (negative, positive), on_step, sources)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_is_its_seeds_whatever_is_drawn_beside_it(family, sampler):
    told = []
    together = drawn(family, sampler, [5, 6], on_step=lambda step, clean: told.append((step, clean())))
    assert [step for step, _ in told] == [1, 2, 3, 4]
    assert all(clean.shape == together.shape and clean.isfinite().all() for _, clean in told)
    torch.manual_seed(99)  # torch's own generator has no part in it
    torch.testing.assert_close(drawn(family, sampler, [6]), together[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@pytest.mark.parametrize("sampler", sorted(RANDOM))
def test_new_noise_is_of_the_seed_too(family, sampler):
    shot = Shot(64, 64, 4, 3.0, sampler)
    both = family.encode_tokens(family.tokenize(["", "a cat"])).pick(slice(0, 1))
    noise, _ = noise_sources(family, shot, [5])
    one, other = (
        denoise(family, shot, noise, (both, both), sources=[torch.Generator().manual_seed(seed)]) for seed in (1, 2)
    )
    assert not torch.allclose(one, other, atol=1e-3)


def test_what_a_sampler_cannot_do_is_said(family):
    with pytest.raises(UserError, match="LCM cannot be drawn with 120 steps"):
        drawn(family, "LCM", [1], 120)


def test_rescaled_guidance_has_the_contrast_of_the_prompts_own_answer():
    generator = torch.Generator().manual_seed(1)
    negative, positive = torch.randn(2, 3, 4, 8, 8, generator=generator).unbind(0)
    plain = guided(negative, positive, 7.0)
    torch.testing.assert_close(plain, negative + 7 * (positive - negative))
    whole = guided(negative, positive, 7.0, 1.0)
    torch.testing.assert_close(whole.std((1, 2, 3)), positive.std((1, 2, 3)))
    torch.testing.assert_close(guided(negative, positive, 7.0, 0.7), 0.7 * whole + 0.3 * plain)


def test_thumbnails_keep_their_proportions():
    latents = torch.ones(2, 4, 64, 128)
    assert small(latents).shape == (2, 4, 16, 32) and small(latents[..., :16, :8]).shape == (2, 4, 16, 8)
