"""Every picture of a request is drawn once, beside those that it can be drawn beside."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from tests.trainer.preview.test_mixer import ENGINE, random_adapter
from trainer.contract.config import ModelSection
from trainer.contract.grids import Axis, GridRequest, cells
from trainer.contract.requests import GenerateRequest, Picture
from trainer.families.locate import load_family
from trainer.formats.parameters import parse_parameters
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.preview.grids import answer_grid
from trainer.preview.plan import WIDEST, plan

PICTURES = st.builds(
    Picture,
    prompt=st.just("x"),
    steps=st.sampled_from([None, 4, 20]),
    sampler=st.sampled_from([None, "Euler", "DDIM"]),
)


@given(st.lists(st.tuples(PICTURES, st.integers(1, 16)), min_size=1, max_size=40), st.integers(1, 16))
def test_a_plan_holds_every_picture_once_beside_its_like(given, most):
    pictures, chunks = zip(*given, strict=True)
    request = GenerateRequest(id="x", pictures=pictures, out="o")
    passes = plan(request, chunks, most)
    assert sorted(place for one in passes for place in one.places) == list(range(len(pictures)))
    for one in passes:
        assert 1 <= len(one.places) <= most
        assert {(request.steps_of(p), request.sampler_of(p)) for p in one.places} == {(one.steps, one.sampler)}
        assert len(one.places) == 1 or math.lcm(*(chunks[p] for p in one.places)) <= WIDEST
    if len({(one.steps, one.sampler) for one in passes}) == 1 and set(chunks) == {1}:
        assert len(passes) == -(-len(pictures) // most), "no pass more than there must be"


def drawn_with(tiny_sd, monkeypatch, pictures, **more):
    """Passes and rows of a request, and how often the model was asked."""
    engine = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    rows, real = [], engine.family.predict
    monkeypatch.setattr(engine.family, "predict", lambda noisy, *rest: rows.append(len(noisy)) or real(noisy, *rest))
    for name, value in more.items():
        setattr(engine, name, value)
    steps = []
    request = GenerateRequest(id="x", pictures=tuple(pictures), steps=2, out="o")
    drawn = list(engine.draw(request, Watcher(step=lambda done, total: steps.append((done, total)))))
    return drawn, rows, steps


def test_pictures_without_guidance_have_no_negative_half(tiny_sd, monkeypatch):
    pictures = [Picture(prompt="a cat", guidance=scale) for scale in (1.0, 5.0, 1.0)]
    _, rows, steps = drawn_with(tiny_sd, monkeypatch, pictures)
    assert rows == [4, 4] and steps == [(3, 6), (6, 6)]
    assert drawn_with(tiny_sd, monkeypatch, pictures[:1])[1] == [1, 1]


def test_large_pictures_are_drawn_one_by_one(tiny_sd, monkeypatch):
    _, rows, _ = drawn_with(tiny_sd, monkeypatch, [Picture(prompt="a cat")] * 3, pixels=64)
    assert rows == [2] * 6


def test_what_does_not_fit_is_drawn_in_halves(tiny_sd, monkeypatch):
    engine = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    rows, real = [], engine.family.predict

    def short_of_memory(noisy, *rest):
        rows.append(len(noisy))
        if len(noisy) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return real(noisy, *rest)

    monkeypatch.setattr(engine.family, "predict", short_of_memory)
    request = GenerateRequest(id="x", pictures=(Picture(prompt="a cat"),) * 8, steps=2, out="o")
    assert sorted(one.place for one in engine.draw(request)) == list(range(8))
    assert rows == [16, 8] + [4] * 8, "tried once, then known"
    rows.clear()
    list(engine.draw(request))
    assert rows == [4] * 8


def test_a_grid_is_its_cells_with_labels_and_what_made_them(tiny_sd, tmp_path):
    engine = PreviewEngine(ModelSection(base=str(tiny_sd)), ENGINE)
    adapter = random_adapter(load_family(ModelSection(base=str(tiny_sd)), ENGINE), 4, 1)
    engine.use = lambda files: engine.mixer.load([adapter]) or []
    file = tmp_path / "ink.safetensors"
    file.write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    request = GridRequest(
        id="g", base=str(tiny_sd), adapters=(str(file),), picture=Picture(prompt="a cat", strengths=(1.0,)), steps=2,
        x=Axis(kind="strength", values=(0, 0.5, 1)), y=Axis(kind="sampler", values=("Euler", "DDIM")),
        out=str(tmp_path),
    )  # fmt: skip
    seen = []
    files, sheet, notices = answer_grid(
        engine, request, Watcher(picture=lambda place, made: seen.append((place, made)))
    )
    assert not notices and sorted(seen) == list(enumerate(files)) and len(files) == 6
    texts = []
    for made in files:
        with Image.open(made) as image:
            texts.append(parse_parameters(image.text["parameters"]))
    assert [one.sampler for one in texts] == ["Euler"] * 3 + ["DDIM"] * 3
    assert [tuple(use.strength for use in one.loras) for one in texts] == [(), (0.5,), (1.0,)] * 2
    with Image.open(sheet) as image:
        assert image.width > 3 * 64 and image.height > 2 * 64
        assert GridRequest.model_validate_json(image.text["lora_atelier.grid"]) == request
        assert "Script: X/Y/Z plot, X Type: strength, X Values:" in image.text["parameters"]
        assert parse_parameters(image.text["parameters"]).prompt == "a cat"
    alone = cells(request).model_copy(update={"id": "alone", "pictures": cells(request).pictures[4:5]})
    (one,) = engine.draw(alone)
    with Image.open(files[4]) as image:
        assert max(high for _, high in ImageChops.difference(image, one.image).getextrema()) <= 1  # 5e-5, rounded
