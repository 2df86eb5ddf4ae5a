"""The run's cache of latents and the batches made of it."""

import pytest
import torch

from tests.tiny import make_pictures
from trainer.contract.compose import compose
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.data.batches import Batches
from trainer.data.cache import build_cache, read_cache, to_pixels
from trainer.data.order import Order
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.pictures.decode import open_picture
from trainer.pictures.epochs import Turn

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), Engine(CPU, torch.float32, 1))


def config(folder, **dataset):
    return compose([{"dataset": {"path": str(folder), **dataset}, "training": {"batch_size": 3}}])


def quiet(done, total):
    return None


def test_a_second_start_sees_what_the_first_saw(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    options = config(folder, flip=True, trigger="zubo").dataset
    cache = build_cache(tmp_path / "cache.safetensors", family, options, quiet)
    (folder / "0.png").unlink()
    (folder / "1.txt").write_text("edited later")
    again = build_cache(tmp_path / "cache.safetensors", family, options, quiet)
    assert again.fingerprint == cache.fingerprint and [p.caption for p in again.pictures] == [
        p.caption for p in cache.pictures
    ]
    assert again.pictures[0].caption.startswith("zubo")
    for mine, theirs in zip(cache.pictures, again.pictures, strict=True):
        assert len(mine.views) == 2
        assert all(
            torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std)
            for a, b in zip(mine.views, theirs.views, strict=True)
        )
    fresh = build_cache(tmp_path / "other.safetensors", family, options, quiet)
    assert fresh.fingerprint != cache.fingerprint and len(fresh.pictures) == 2


def test_latents_decode_to_what_the_vae_says(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1)
    cache = build_cache(tmp_path / "c.safetensors", family, config(folder).dataset, quiet)
    posterior = read_cache(tmp_path / "c.safetensors").pictures[0].views[0]
    vae = family.part("vae")
    direct = vae.encode(to_pixels(open_picture(folder / "0.png"))[None]).latent_dist.mean[0] * vae.config.scaling_factor
    torch.testing.assert_close(posterior.mean, direct.detach())
    assert (posterior.std > 0).all() and cache.pictures[0].name == "0.png"


def test_batches_are_functions_of_their_number(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 5)
    settings = config(folder, caption_dropout=0.5, flip=True)
    cache = build_cache(tmp_path / "c.safetensors", family, settings.dataset, quiet)
    order = Order([Turn(picture.bucket) for picture in cache.pictures], 3, settings.training.seed)
    batches = Batches(cache.pictures, order, settings, 1000, CPU)
    one, again, other = batches.batch(4), batches.batch(4), batches.batch(5)
    for name in ("clean", "noise", "timesteps", "captions", "sizes"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(one.noise, other.noise)
    assert one.clean.shape == (3, 4, 8, 8) and one.sizes.tolist() == [[64, 64, 0, 0, 64, 64]] * 3
    dropped = torch.cat([batches.batch(step).captions for step in range(60)]) == 5
    assert 0.35 < dropped.float().mean() < 0.65


def test_a_resolution_below_the_bases_step_is_refused(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1)
    with pytest.raises(UserError, match="pixels"):
        build_cache(tmp_path / "c.safetensors", family, config(folder, resolution=8).dataset, quiet)
