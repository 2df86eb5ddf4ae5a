"""Pictures drawn by replayed passes are those of eager ones, and moving sliders records nothing."""

import pytest
import torch
from torch.backends import cudnn

from tests.gpu.test_graph import MAKERS
from tests.tiny import make_tiny_sd
from tests.trainer.preview.test_mixing import KINDS, latents, locon
from trainer.contract.catalog import SAMPLERS
from trainer.contract.config import ModelSection
from trainer.contract.requests import GenerateRequest, Picture
from trainer.preview.answer import preview_engine
from trainer.preview.plan import MOST

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module", params=MAKERS)
def engine(request, tmp_path_factory):
    base = MAKERS[request.param](tmp_path_factory.mktemp("bases") / request.param)
    made = preview_engine(ModelSection(base=str(base), dtype="fp32"))
    made.mixer.load([locon(made.family, rank, seed, kind) for seed, (rank, kind) in enumerate(KINDS)])
    return made


def pictures(count: int, strength: float) -> list[Picture]:
    return [Picture(prompt="a cat", seed=n, strengths=(strength * n / count,) * len(KINDS)) for n in range(count)]


def test_replayed_pictures_are_the_eager_ones(engine):
    with cudnn.flags(enabled=True, allow_tf32=False):  # the two add up in another order, and TF32 has ten bits
        replayed = latents(engine, pictures(8, 1.0), 8)
        recorded, engine.recorded = engine.recorded, None
        eager = latents(engine, pictures(8, 1.0), 8)
    engine.recorded = recorded
    assert recorded is not None and recorded._replay._recordings and all(recorded._replay._recordings.values())
    torch.testing.assert_close(replayed, eager, rtol=2e-3, atol=2e-3)


def test_sliders_record_nothing_and_memory_stays_flat(engine):
    base = latents(engine, pictures(2, 0.0), 2)
    for round_ in range(30):
        latents(engine, pictures(2, round_ / 10 - 1.45), 2)
        engine.texts.forget()  # each strength has texts of its own, and many are kept
        if round_ == 5:
            before, known = torch.cuda.memory_allocated(), len(engine.recorded._replay._recordings)
    assert len(engine.recorded._replay._recordings) == known
    assert torch.cuda.memory_allocated() == before
    assert torch.equal(latents(engine, pictures(2, 0.0), 2), base)


def test_what_does_not_fit_is_drawn_in_halves(engine, monkeypatch):
    real, sizes = engine._denoise, []

    def short_of_memory(shot, asked, *rest):
        sizes.append(len(asked))
        if len(asked) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(shot, asked, *rest)

    monkeypatch.setattr(engine, "_denoise", short_of_memory)
    engine.batch = MOST  # other tests draw in smaller batches
    request = GenerateRequest(id="x", pictures=tuple(pictures(4, 1.0)), steps=2, out="o")
    assert len(list(engine.draw(request))) == 4 and sizes == [4, 2, 2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_on_a_gpu(engine, sampler):
    request = GenerateRequest(id="x", pictures=tuple(pictures(2, 1.0)), steps=3, sampler=sampler, out="o")
    drawn = list(engine.draw(request))
    assert len({image.tobytes() for _, image, _ in drawn}) == 2


def test_a_picture_is_decoded_in_bf16_as_in_fp32(tmp_path):
    base = make_tiny_sd(tmp_path / "base")
    exact, quick = (preview_engine(ModelSection(base=str(base), dtype=dtype)).family for dtype in ("fp32", "bf16"))
    latents = torch.randn(2, *exact.latent_shape(64, 64), device="cuda")
    found = quick.decode(latents)
    assert found.dtype == torch.float32 and (found - exact.decode(latents)).abs().mean() < 2 / 127.5
