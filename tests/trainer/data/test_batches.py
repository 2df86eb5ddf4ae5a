"""Batches: functions of their number, with what each picture and each part of it counts."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import make_pictures
from tests.trainer.data.test_cache import new_run, quiet
from trainer.contract.catalog import LOSSES, resolve
from trainer.contract.config import ModelSection
from trainer.data.batches import Batches, normalised
from trainer.data.cache import build_cache
from trainer.data.order import Order
from trainer.data.store import store_of
from trainer.data.texts import read_texts
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.objectives.losses import weighted_mean

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), Engine(CPU, torch.float32, 1))


def batches_of(run, family, rank=0, processes=1) -> Batches:
    config = run.config()
    cache = build_cache(run, store_of(run), family, quiet)
    words = read_texts(run, store_of(run), family, config, cache)
    order = Order(
        [row.turn for row in cache.pictures], config.training.batch_size, config.training.seed, rank, processes
    )
    return Batches(cache, words.rows, order, config, 1000, CPU, words.host)


def drawn_of(batch) -> list[torch.Tensor]:
    return [part for part in batch if part is not None]


def test_batches_are_functions_of_their_number(family, tmp_path):
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 5), caption_dropout=0.5, flip=True)
    batches, fresh = batches_of(run, family), batches_of(run, family)
    one, again, other = batches.batch(4), fresh.batch(4), batches.batch(5)
    for name in ("clean", "noise", "timesteps", "captions", "sizes"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert one.weight is None and not torch.equal(one.noise, other.noise)
    assert one.clean.shape == (3, 4, 8, 8) and one.sizes.tolist() == [[64, 64, 0, 0, 64, 64]] * 3
    dropped = torch.cat([batches.batch(step).captions for step in range(60)]) == batches.texts[""]
    assert 0.35 < dropped.float().mean() < 0.65


def test_processes_draw_what_one_with_all_their_pictures_would(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 5, size=(96, 64))
    (folder / "0.txt").write_text("a {red|blue} box\na thing")
    Image.linear_gradient("L").resize((96, 64)).save(folder / "1-masklabel.png")
    drawn = {"flip": True, "crop": "random", "caption_dropout": 0.5}
    runs = [new_run(tmp_path, folder, {"batch_size": size}, **drawn) for size in (2, 2, 4)]
    first, second = (batches_of(run, family, rank, 2) for rank, run in enumerate(runs[:2]))
    alone = batches_of(runs[2], family)
    for step in range(8):
        for mine, other, together in zip(*(drawn_of(each.batch(step)) for each in (first, second, alone)), strict=True):
            assert torch.equal(torch.cat([mine, other]), together)
        assert not torch.equal(first.batch(step).noise, second.batch(step).noise)


def test_latents_that_do_not_fit_into_memory_are_read_when_they_are_drawn(family, tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "set", 5)
    Image.linear_gradient("L").resize((64, 64)).save(folder / "0-masklabel.png")
    run = new_run(tmp_path, folder, flip=True)
    held = batches_of(run, family)
    monkeypatch.setattr("trainer.data.views.HELD", 0)
    read = batches_of(run, family)
    assert not read.cache.latents._held and held.cache.latents._held
    for step in range(6):
        pairs = zip(drawn_of(held.batch(step)), drawn_of(read.batch(step)), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_a_batch_brings_its_texts_along_where_there_are_too_many_for_the_device(family, tmp_path, monkeypatch):
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 5), caption_dropout=0.3)
    few = batches_of(run, family)
    monkeypatch.setattr("trainer.data.texts.HELD", 0)
    many = batches_of(run, family)
    table = read_texts(run, store_of(run), family, run.config(), many.cache).host
    for step in range(6):
        own, other = many.batch(step), few.batch(step)
        assert torch.equal(own.hidden, table.hidden[own.captions]) and own.hidden.any()
        assert torch.equal(own.pooled, table.pooled[own.captions]) and other.hidden is other.pooled is None
        assert all(torch.equal(mine, its) for mine, its in zip(own[:5], other[:5], strict=True))


def test_crops_and_texts_are_drawn_and_fit_each_other(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1, size=(256, 64))
    (folder / "0.txt").write_text("a {red|blue} box\na thing")
    run = new_run(tmp_path, folder, {"batch_size": 4}, crop="random", flip=True, caption_dropout=0)
    batches = batches_of(run, family)
    (row,) = batches.cache.pictures
    assert set(row.texts) == {"a red box", "a blue box", "a thing"} and len(row.views) == 8
    seen = [batches.batch(step) for step in range(40)]
    assert {int(at) for batch in seen for at in batch.captions} == {batches.texts[text] for text in row.texts}
    lefts = {(int(size[3]), size.tolist()[5]) for batch in seen for size in batch.sizes}
    resized = 256 * row.bucket.height // 64
    edges = {view.sizes[3] for view in row.views}
    assert {left for left, _ in lefts} == edges and {0, resized - row.bucket.width} <= edges


def test_a_mask_weighs_the_loss_by_its_area_and_follows_crop_and_flip(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 2, size=(64, 64))
    mask = np.zeros((128, 128), np.uint8)  # of another size than the picture
    mask[:, :32] = 255
    Image.fromarray(mask).save(folder / "0-masklabel.png")
    run = new_run(tmp_path, folder, {"batch_size": 2}, flip=True, mask_floor=0.2)
    batches = batches_of(run, family)
    plain, mirrored = (batches.cache.latents.mask(view) for view in batches.cache.pictures[0].views)
    assert plain[:, :2].min() == 1 and plain[:, 2:].max() == 0 and torch.equal(mirrored, plain.flip(1))
    batch = batches.batch(0)
    assert batch.weight.shape == (2, 1, 8, 8)
    torch.testing.assert_close(batch.weight.mean(dim=(1, 2, 3)), torch.ones(2))
    values = sorted({round(value, 4) for value in batch.weight.flatten().tolist()})
    assert values == [0.5, 1.0, 2.5], "0.2 and 1 over their mean, and a picture without a mask"
    off = new_run(tmp_path, folder, {"batch_size": 2}, masks=False)
    assert batches_of(off, family).batch(0).weight is None


def test_alpha_is_a_mask_over_the_background(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1)
    with Image.open(folder / "0.png") as image:
        clear = image.convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 64, 32))
    clear.save(folder / "0.png")
    run = new_run(tmp_path, folder, {"batch_size": 1}, background="#ff0000")
    batches = batches_of(run, family)
    mask = batches.cache.latents.mask(batches.cache.pictures[0].views[0])
    assert mask[:4].max() == 0 and mask[4:].min() == 1
    other = batches_of(new_run(tmp_path, folder, {"batch_size": 1}, background="#0000ff"), family)
    first, second = (each.cache.latents.posterior(each.cache.pictures[0].views[0]).mean for each in (batches, other))
    assert not torch.equal(first, second), "another colour behind it"


def test_regularisation_pictures_count_as_much_as_is_said(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 2)
    prior = make_pictures(tmp_path / "prior", 2, size=(64, 80))
    concept = {"path": str(prior), "regularisation": True, "class_word": "box"}
    run = new_run(tmp_path, folder, {"batch_size": 2}, concepts=[concept], regularisation_weight=0.25, trigger="zubo")
    batches = batches_of(run, family)
    counted = set()
    for step in range(batches.order.batches_per_epoch):
        chosen, weight = batches.order.batch(step), batches.batch(step).weight
        assert weight.shape == (2, 1, 1, 1)
        counted |= {(batches.cache.pictures[one].prior, float(at)) for one, at in zip(chosen, weight, strict=True)}
    assert counted == {(True, 0.25), (False, 1.0)}
    assert not any("zubo" in text for row in batches.cache.pictures if row.prior for text in row.texts)


@pytest.mark.parametrize("name", LOSSES)
def test_a_small_mask_gives_as_large_a_loss_as_none_where_the_error_is_even(name):
    predicted, wanted, weight = torch.zeros(2, 4, 8, 8), torch.ones(2, 4, 8, 8), torch.ones(2)
    loss, threshold = resolve(LOSSES[name]), torch.full((2, 1, 1, 1), 0.5)
    mask = torch.zeros(8, 8)
    mask[3, 3] = 1
    parts = torch.stack([normalised(mask, 0.0), normalised(torch.zeros(8, 8), 0.0)])[:, None]
    even = loss(predicted, wanted, threshold)
    torch.testing.assert_close(weighted_mean(even, weight, parts), weighted_mean(even, weight))
    wanted[:, :, 3, 3] = 3  # an error inside the mask of the first picture
    uneven = loss(predicted, wanted, threshold)
    inside, outside = uneven[0, 0, 3, 3], uneven[0, 0, 0, 0]
    assert inside > outside
    torch.testing.assert_close(weighted_mean(uneven, weight, parts), (inside + (63 * outside + inside) / 64) / 2)
