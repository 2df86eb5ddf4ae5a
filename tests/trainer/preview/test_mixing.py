"""Mixed batches are their singles, and any number of moves, loads and unloads leaves the base as it was."""

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.preview.test_mixer import ENGINE, answer, random_adapter
from trainer.adapters.read import AdapterFile, Update
from trainer.contract.config import ModelSection
from trainer.contract.requests import GenerateRequest, Picture, Strength
from trainer.preview import mixer as mixer_module
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.preview.mixer import Mixer
from trainer.preview.slots import Slots

KINDS = [(4, ("to_q", "fc1")), (64, ("to_k", "conv1")), (16, ("ff.net.2", "conv2", "q_proj")), (8, ("proj_in",))]


def locon(family, rank: int, seed: int, endings) -> AdapterFile:
    """As `random_adapter`, over the convolutions too, a little weaker."""
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for target in family.targets("everything", text_encoder=True):
        weight = family.parts[target.part].get_submodule(target.path).weight
        if target.path.endswith(endings):
            down = torch.randn(rank, *weight.shape[1:], generator=generator) / weight[0].numel() ** 0.5
            up = torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2), generator=generator) * 0.3 / rank**0.5
            updates[target] = Update(down, up)
    return AdapterFile(f"{seed}.safetensors", updates, ())


@pytest.fixture(scope="module")
def engine(tiny_sd):
    made = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    made.mixer.load([locon(made.family, rank, seed, kind) for seed, (rank, kind) in enumerate(KINDS)])
    return made


@contextmanager
def unloaded(engine: PreviewEngine) -> Iterator[None]:
    """Nothing loaded for a while, whatever becomes of it; other tests have their adapters back."""
    loaded = engine.mixer.loaded
    engine.mixer.load([])
    try:
        yield
    finally:
        engine.mixer.load(loaded)


NUMBERS = st.floats(-1.5, 1.5, width=16) | st.just(0.0)
STRENGTHS = NUMBERS | st.builds(
    Strength,
    unet=NUMBERS,
    text_encoder=st.none() | NUMBERS,
    blocks=st.sampled_from(["ALL", "INS", "OUTALL", (), (("MID", 0.5), ("IN01", 0.0))]),
    start=st.sampled_from([0.0, 0.5]),
    end=st.sampled_from([0.5, 1.0]),
)
PICTURES = st.builds(
    Picture,
    prompt=st.sampled_from(["a cat", "a (red:1.4) dog", "one BREAK two BREAK three", "word " * 80]),
    negative=st.sampled_from(["", "blurry BREAK [grey]"]),
    seed=st.integers(0, 100),
    strengths=st.tuples(*[STRENGTHS] * len(KINDS)),
    guidance=st.sampled_from([None, 1.0, 9.0]),
    steps=st.sampled_from([None, None, 3]),
    sampler=st.sampled_from([None, None, "Euler a"]),
)


def latents(engine: PreviewEngine, pictures, batch: int) -> torch.Tensor:
    """What is decoded; pixels are whole numbers and would hide small errors."""
    seen = []
    real, engine.batch = engine.family.decode, batch
    engine.family.decode = lambda found: seen.append(found) or real(found)
    try:
        drawn = list(engine.draw(GenerateRequest(id="x", pictures=tuple(pictures), steps=2, out="unused")))
    finally:
        engine.family.decode = real
    return torch.cat(
        [own for _, own in sorted(zip([one.place for one in drawn], seen, strict=True), key=lambda pair: pair[0])]
    )


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PICTURES, min_size=8, max_size=8))
def test_eight_different_pictures_in_one_pass_are_their_singles(engine, pictures):
    together, alone = latents(engine, pictures, 8), latents(engine, pictures, 1)
    assert apart(together, alone) < 5e-5


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference in standard deviations of its picture's latents: with a random base, three steps of
    Euler a at guidance 9 end at latents of a hundred, where 5e-5 is the last digit of a float."""
    spread = wanted.flatten(1).std(dim=1).view(-1, 1, 1, 1)
    return float(((found - wanted) / spread).abs().max())


def test_strengths_of_blocks_and_steps_do_something_of_their_own(engine):
    kinds = [1.0, Strength(blocks="INS"), Strength(blocks="OUTALL"), Strength(start=0.5), Strength(end=0.5)]
    kinds += [Strength(unet=0.0, text_encoder=1.0), Strength(text_encoder=0.0), 0.0]
    pictures = [Picture(prompt="a cat", strengths=(one,) * len(KINDS)) for one in kinds]
    drawn = latents(engine, pictures, 1)
    for first in range(len(kinds)):
        for second in range(first):
            assert not torch.allclose(drawn[first], drawn[second], atol=1e-3), (kinds[first], kinds[second])
    never = [
        Picture(prompt="a cat", strengths=(one,) * len(KINDS)) for one in (Strength(blocks="NONE"), Strength(unet=0.0))
    ]
    assert torch.equal(latents(engine, never, 1), drawn[[-1, -1]])


@torch.no_grad()
def test_a_broken_adapter_harms_no_picture_that_does_not_use_it(engine):
    family = engine.family
    broken = random_adapter(family, 3, 9)
    for update in broken.updates.values():
        update.down.fill_(float("inf"))
        update.up.fill_(float("nan"))
    with unloaded(engine):
        base = answer(family, 2)
        engine.mixer.load([broken])
        engine.mixer.set([[0.0], [1.0]], ENGINE.device)
        drawn = answer(family, 2)
    assert torch.equal(drawn[0], base[0]) and drawn[1].isnan().any()


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


@torch.no_grad()
def test_moves_loads_and_unloads_leave_the_base_and_the_memory_as_they_were(engine):
    family, choose = engine.family, random.Random(4)
    adapters = [locon(family, rank, 20 + seed, kind) for seed, (rank, kind) in enumerate(KINDS * 2)]
    size = sum(t.nbytes for update in adapters[0].updates.values() for t in (update.down, update.up))
    mixer = Mixer(family.parts, Slots(ENGINE.device, torch.float32, room=2 * size))
    with unloaded(engine):
        base = answer(family, 1)
        modules = [id(module) for part in family.parts.values() for module in part.modules()]
        counts = []
        for move in range(120):
            mixer.load(choose.sample(adapters, choose.randint(0, 4)))
            for _ in range(8):
                mixer.set([[choose.uniform(-2, 2) for _ in mixer.loaded] for _ in range(2)], ENGINE.device)
            if move % 20 == 19:
                answer(family, 2)
                mixer.set([[0.0] * len(mixer.loaded)], ENGINE.device)
                assert torch.equal(answer(family, 1), base)
                mixer.load(adapters[:4])
                mixer.set([[1.0] * 4], ENGINE.device)
                counts.append(alive())
        mixer.load([])
    assert max(counts[2:]) <= counts[1], f"tensors pile up: {counts}"
    assert modules == [id(module) for part in family.parts.values() for module in part.modules()]


def test_what_was_not_used_for_longest_leaves_the_device_and_comes_back(engine):
    adapters = [locon(engine.family, 8, seed, ("to_q",)) for seed in range(3)]
    size = sum(t.nbytes for update in adapters[0].updates.values() for t in (update.down, update.up))
    slots = Slots(ENGINE.device, torch.float32, room=2 * size)
    first = slots.take(adapters[:1])[0]
    slots.take(adapters[1:2])
    assert slots.take(adapters[:1])[0] is first, "what is there is not brought again"
    slots.take(adapters[2:])
    assert slots.held() == (2 * size, 3 * size)
    assert slots.take(adapters[:1])[0] is first, "the second was the oldest"
    assert len(slots.take(adapters)) == 3 and slots.held()[0] == 3 * size, "what is in use stays"
    slots.forget(adapters[0])
    assert slots.held() == (2 * size, 2 * size)


@pytest.mark.parametrize("strength", [0.7, -1.2, Strength(unet=0.5, text_encoder=1.0, blocks="OUTALL"), 0.0])
def test_what_is_built_in_draws_the_same_and_leaves_nothing_behind(engine, monkeypatch, strength):
    weights = {id(one): one.data_ptr() for part in engine.family.parts.values() for one in part.parameters()}
    kept = [one.clone() for one in engine.family.parts["unet"].parameters()]
    pictures = [Picture(prompt=text, strengths=(strength, 0.0, 0.5 if strength else 0.0, 0.0)) for text in ("a", "b")]
    merges, real = [], engine.merger.merge
    monkeypatch.setattr(engine.merger, "merge", lambda *given: merges.append(1) or real(*given))
    beside = latents(engine, pictures, 2)
    assert not merges, "two steps of two pictures are not worth it"
    monkeypatch.setattr("trainer.preview.engine.MERGE_FROM", 1)
    torch.testing.assert_close(latents(engine, pictures, 2), beside, rtol=5e-5, atol=5e-5)
    assert bool(merges) == bool(strength), "at strength 0 there is nothing to build in"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.draw(GenerateRequest(id="x", pictures=tuple(pictures), steps=2, out="o"), Watcher(step=stop)))
    assert weights == {id(one): one.data_ptr() for part in engine.family.parts.values() for one in part.parameters()}
    assert all(map(torch.equal, kept, engine.family.parts["unet"].parameters()))


@torch.no_grad()
def test_adapters_that_nobody_uses_are_not_computed(engine, monkeypatch):
    adapters = [locon(engine.family, 4, 40 + seed, ("to_q", "conv1")) for seed in range(25)]
    calls, real = [], mixer_module._change
    monkeypatch.setattr(mixer_module, "_change", lambda *given: calls.append(1) or real(*given))
    counts = []
    with unloaded(engine):
        for some in (adapters[:1], adapters):
            engine.mixer.load(some)
            engine.mixer.set([[0.5] + [0.0] * (len(some) - 1)], ENGINE.device)
            answer(engine.family, 2)
            counts.append(len(calls))
            calls.clear()
    assert counts[0] == counts[1] > 0
