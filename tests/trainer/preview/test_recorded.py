"""What a CUDA graph would replay, run here as it is: the same pictures, nothing recorded again for a new strength."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from tests.trainer.preview.test_mixer import ENGINE
from tests.trainer.preview.test_mixing import KINDS, PICTURES, apart, latents, locon
from trainer.contract.config import ModelSection
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine
from trainer.kernels.reference import REFERENCE
from trainer.preview.engine import PreviewEngine
from trainer.preview.recorded import MOST, Recorded


class AsItIs:
    """Runs what a graph would record, on memory that stays, and counts what would be recorded."""

    def __init__(self, function) -> None:
        self.function, self.recorded, self.forgotten = function, {}, 0

    def __call__(self, batch, kind=None):
        key = kind, tuple(tensor.shape for tensor in batch)
        if key not in self.recorded:
            self.recorded[key] = type(batch)(*(tensor.clone() for tensor in batch))
        for mine, given_ in zip(self.recorded[key], batch, strict=True):
            mine.copy_(given_)
        return self.function(self.recorded[key])

    def forget(self) -> None:
        self.recorded.clear()
        self.forgotten += 1


@pytest.fixture(scope="module", params=["sd1", "sdxl", "lean sd1"])
def engine(request, tmp_path_factory):
    folder, maker = tmp_path_factory.mktemp("base"), make_tiny_sdxl if request.param == "sdxl" else make_tiny_sd
    how, patch = ENGINE, pytest.MonkeyPatch()
    if request.param.startswith("lean"):  # the blocks that a GPU has, with the definitions of our kernels
        how = Engine(torch.device("cpu"), torch.float32, 1, attention="torch", kernels="triton")
        for module in ("trainer.families.sd", "trainer.preview.recorded"):
            patch.setattr(f"{module}.our_kernels", lambda: REFERENCE)
    made = PreviewEngine(ModelSection(base=str(maker(folder))), how)
    made.mixer.load([locon(made.family, rank, seed, kind) for seed, (rank, kind) in enumerate(KINDS)])
    yield made
    patch.undo()


@pytest.fixture
def recorded(engine):
    engine.recorded = Recorded(engine.family, engine.mixer, AsItIs)
    yield engine.recorded
    engine.recorded = None


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PICTURES, min_size=8, max_size=8))
def test_recorded_passes_draw_what_passes_draw(engine, pictures):
    plain = latents(engine, pictures, 8)
    engine.recorded = Recorded(engine.family, engine.mixer, AsItIs)
    try:
        assert apart(latents(engine, pictures, 8), plain) < 1e-4
    finally:
        engine.recorded = None


def test_moves_record_nothing_again_and_strength_0_stays_the_base_bit_for_bit(engine, recorded):
    choose, count = random.Random(2), len(KINDS)
    base = latents(engine, [Picture(prompt="a cat", strengths=(0.0,) * count)] * 2, 2)
    for _ in range(20):
        moved = Picture(prompt="a cat", strengths=tuple(choose.uniform(-2, 2) for _ in range(count)))
        drawn = latents(engine, [Picture(prompt="a cat", strengths=(0.0,) * count), moved], 2)
        assert torch.equal(drawn[0], base[0]) and not torch.allclose(drawn[1], base[1], atol=1e-3)
    assert len(recorded._replay.recorded) == 2, "with adapters and without"
    engine.mixer.load(engine.mixer.loaded[1:])
    engine.mixer.load([*engine.mixer.loaded, locon(engine.family, *[4, 0, KINDS[0][1]])])
    again = tuple(choose.uniform(-2, 2) for _ in range(count))
    latents(engine, [Picture(prompt="a cat", strengths=again)] * 2, 2)
    assert len(recorded._replay.recorded) == 2, "an adapter that was loaded anew fits where it fitted before"


def test_recordings_are_few_and_what_fits_none_is_computed_all_the_same(engine, recorded):
    pictures = (Picture(prompt="a cat", strengths=(1.0,) * len(KINDS)),)
    for width in range(64, 64 + 32 * (MOST + 2), 32):
        list(engine.draw(GenerateRequest(id="x", pictures=pictures, steps=1, size=(width, 64), out="o")))
    assert recorded._replay.forgotten == 1 and len(recorded._replay.recorded) == 2
    loaded = engine.mixer.loaded
    engine.mixer.load([locon(engine.family, 300, 5, ("to_q",))])
    picture = [Picture(prompt="a cat", strengths=(1.0,))]
    drawn = latents(engine, picture, 1)
    engine.recorded = None
    torch.testing.assert_close(latents(engine, picture, 1), drawn)
    engine.mixer.load(loaded)
