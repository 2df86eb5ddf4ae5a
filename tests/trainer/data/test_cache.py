"""What a run keeps of its pictures: exactly what changed is made again, and a resume sees what the first start saw."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import make_pictures
from trainer.contract.compose import compose
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.latents import measure, prune, shelf_of
from trainer.contract.rundir import RunDir, create_run
from trainer.data.cache import LIST, Cache, build_cache
from trainer.data.encode import to_pixels
from trainer.data.store import store_of
from trainer.data.texts import read_texts
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.pictures.album import change, create_album, read_folder
from trainer.pictures.decode import open_picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), Engine(CPU, torch.float32, 1))


def quiet(what, done, total):
    return None


def new_run(home: Path, folder: Path, training=None, **dataset) -> RunDir:
    layers = [{"dataset": {"path": str(folder), **dataset}, "training": training or {"batch_size": 3}}]
    return create_run(home, "run", compose(layers))


def cached(run: RunDir, family) -> tuple[Cache, tuple[int, int, int]]:
    """Build the cache of a run; return it with (reused, made, damaged) entries."""
    store = store_of(run)
    cache = build_cache(run, store, family, quiet)
    return cache, (store.reused, store.made, store.damaged)


def texts(run: RunDir, family, cache) -> tuple[int, int]:
    """Encode the texts of a run; return (reused, made)."""
    store = store_of(run)
    read_texts(run, store, family, run.config(), cache)
    return store.reused, store.made


def test_a_second_start_sees_what_the_first_saw(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    run = new_run(tmp_path, folder, flip=True, trigger="zubo")
    cache, counts = cached(run, family)
    assert counts == (0, 6, 0)
    (folder / "0.png").unlink()
    (folder / "1.txt").write_text("edited later")
    prune(shelf_of(tmp_path), limit=0)
    again, counts = cached(run, family)
    assert counts == (6, 0, 0), "the run has links of its own"
    assert again.pictures == cache.pictures
    assert again.pictures[0].texts[0].startswith("zubo")
    for row in cache.pictures:
        assert [view.mirrored for view in row.views] == [False, True]
        for view in row.views:
            mine, theirs = cache.latents.posterior(view), again.latents.posterior(view)
            assert torch.equal(mine.mean, theirs.mean) and torch.equal(mine.std, theirs.std)
    fresh, _ = cached(new_run(tmp_path, folder, flip=True, trigger="zubo"), family)
    assert [row.digest for row in fresh.pictures] == [row.digest for row in cache.pictures[1:]]
    assert fresh.pictures[0].texts != cache.pictures[1].texts


def test_only_what_changed_is_made_again(family, tiny_sd, tmp_path):
    folder = make_pictures(tmp_path / "set", 4, size=(96, 64))

    def counted(**dataset):
        return cached(new_run(tmp_path, folder, **dataset), family)[1][:2]

    assert counted() == (0, 4)
    assert counted() == (4, 0), "another run of the same home"
    with Image.open(folder / "2.png") as image:
        image.putpixel((5, 5), (1, 2, 3))
        image.save(folder / "2.png")
    assert counted() == (3, 1), "one pixel of one picture"
    (folder / "1.txt").write_text("another caption")
    assert counted() == (4, 0), "a caption is no part of the latents"
    assert counted(flip=True) == (4, 4), "the mirror images alone"
    assert counted(resolution=[32, 64]) == (4, 4)
    assert counted(background="#112233") == (0, 4)
    assert counted(trigger="zubo", max_upscale=3.0) == (4, 0)
    assert counted(crop="random") == (0, 16), "four crops each, none of them the middle"
    other = shutil.copytree(tiny_sd / "vae", tmp_path / "vae")
    another = load_family(ModelSection(base=str(tiny_sd), vae=str(other)), Engine(CPU, torch.float32, 1))
    assert cached(new_run(tmp_path, folder), another)[1][:2] == (0, 4), "another VAE"


def test_a_crop_around_another_point_costs_that_picture(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 3, size=(200, 64))
    create_album(folder, read_folder(folder))
    assert cached(new_run(tmp_path, folder), family)[1] == (0, 3, 0)

    def moved(album):
        first = album.entries[0].model_copy(update={"focus": (0.9, 0.5)})
        return album.model_copy(update={"entries": (first, *album.entries[1:])})

    change(folder, "focus", moved)
    assert cached(new_run(tmp_path, folder), family)[1] == (2, 1, 0)


def test_an_edited_caption_costs_its_own_embedding(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    run = new_run(tmp_path, folder)
    assert texts(run, family, cached(run, family)[0]) == (0, 4), "three captions and the empty one"
    (folder / "1.txt").write_text("a PICTURE number 7")
    run = new_run(tmp_path, folder)
    assert texts(run, family, cached(run, family)[0]) == (3, 1)


@pytest.mark.parametrize("text_encoder", [False, True])
def test_a_large_set_says_that_its_texts_vary_less(family, tmp_path, monkeypatch, text_encoder):
    monkeypatch.setattr("trainer.data.cache.MOST_TEXTS", 6)
    folder = make_pictures(tmp_path / "set", 2)
    (folder / "0.txt").write_text("one, two, three, four, five, six")
    adapter = {"text_encoder": text_encoder}
    run = create_run(tmp_path, "run", compose([{"dataset": {"path": str(folder)}, "adapter": adapter}]))
    cache, _ = cached(run, family)
    assert [len(row.texts) for row in cache.pictures] == [8 if text_encoder else 3, 1]
    said = [event["text"] for event in run.events() if event["kind"] == "notice"]
    assert len(said) == (not text_encoder) and all("3 can be drawn" in text for text in said)


def test_damaged_entries_are_made_again(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    before, _ = cached(new_run(tmp_path, folder), family)
    torn, flipped, _ = sorted(shelf_of(tmp_path).glob("*/*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:100])
    data = bytearray(flipped.read_bytes())
    data[-9] ^= 1
    flipped.write_bytes(bytes(data))
    after, counts = cached(new_run(tmp_path, folder), family)
    assert counts == (1, 2, 2)
    for row in before.pictures:
        mine, theirs = (cache.latents.posterior(row.views[0]).mean for cache in (before, after))
        assert torch.equal(mine, theirs)


def test_a_resume_that_cannot_see_what_the_first_start_saw_says_so(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 2)
    run = new_run(tmp_path, folder)
    cached(run, family)
    for path in (run.path / "cache").glob("*.safetensors"):
        path.write_bytes(b"")
    assert cached(run, family)[1] == (0, 2, 2), "the sources are as they were"
    shutil.rmtree(shelf_of(tmp_path))
    for path in (run.path / "cache").glob("*.safetensors"):
        path.write_bytes(b"")
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    with pytest.raises(UserError, match="damaged") as caught:
        cached(run, family)
    assert caught.value.where == "0.png"


@pytest.mark.parametrize("text", ["", '{"form": 4, "pic', "[]", '{"form": 4, "pictures": [{"key": 1}]}', "\udcff"])
def test_a_damaged_list_of_pictures_is_said(family, tmp_path, text):
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 1))
    cached(run, family)
    (run.path / "cache" / LIST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="new run"):
        cached(run, family)


def test_pictures_that_cannot_be_used_are_set_aside_and_the_run_goes_on(family, tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "set", 4)
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:120])
    strange = to_pixels(np.array(open_picture(folder / "3.png")))
    real = type(family).encode_pictures

    def overflowing(self, pixels):
        made = real(self, pixels)
        return type(made)(made.mean * float("nan"), made.std) if torch.equal(pixels[0], strange) else made

    monkeypatch.setattr(type(family), "encode_pictures", overflowing)
    run = new_run(tmp_path, folder)
    cache, _ = cached(run, family)
    assert [row.name for row in cache.pictures] == ["1.png"]
    events = [event for event in run.events() if event["kind"] == "quarantine"]
    assert {event["picture"] for event in events} == {"0.png", "2.png", "3.png"}
    assert any("finite" in event["reason"] for event in events)
    assert all(Path(event["file"]).is_file() for event in events)
    again, _ = cached(run, family)
    assert again.pictures == cache.pictures and again.skipped == cache.skipped
    (folder / "1.png").write_bytes(b"gone too")
    with pytest.raises(UserError, match="No picture"):
        cached(new_run(tmp_path, folder), family)


def test_the_cache_is_pruned_from_what_was_used_longest_ago(family, tmp_path):
    cached(new_run(tmp_path, make_pictures(tmp_path / "old", 2, size=(64, 80))), family)
    for path in shelf_of(tmp_path).glob("*/*.safetensors"):
        os.utime(path, (1, 1))
    new = make_pictures(tmp_path / "new", 4)
    cached(new_run(tmp_path, new), family)
    kept = measure(shelf_of(tmp_path))
    assert kept.files == 6 and prune(shelf_of(tmp_path), kept.bytes).files == 0
    assert prune(shelf_of(tmp_path), kept.bytes * 2 // 3).files == 2
    assert cached(new_run(tmp_path, new), family)[1] == (4, 0, 0)


def test_texts_keep_to_the_limit_of_the_cache_too(family, tmp_path, monkeypatch):
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 4))
    cache, _ = cached(run, family)
    limit = measure(shelf_of(tmp_path)).bytes + 1
    monkeypatch.setattr("trainer.data.texts.prune", partial(prune, limit=limit))
    assert texts(run, family, cache)[1] > 1
    assert measure(shelf_of(tmp_path)).bytes <= limit
    assert texts(run, family, cache)[1] == 0, "the run has what it uses all the same"


def test_two_runs_at_once_share_what_they_make(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 12)
    runs = [new_run(tmp_path, folder) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = [cache for cache, _ in pool.map(lambda run: cached(run, family), runs)]
    assert found[0].pictures == found[1].pictures
    assert measure(shelf_of(tmp_path)).files == 12 and not list(shelf_of(tmp_path).glob("*/.*"))
    assert [cached(run, family)[1] for run in (*runs, new_run(tmp_path, folder))] == [(12, 0, 0)] * 3


def test_a_half_written_entry_is_none_and_goes_in_time(family, tmp_path):
    shelf = shelf_of(tmp_path)
    old, young = shelf / "ab" / ".x.1.tmp", shelf / "ab" / ".y.2.tmp"
    old.parent.mkdir(parents=True)
    for path in (old, young):
        path.write_bytes(b"half")
    (shelf / "ab" / ".z.3.tmp").symlink_to(shelf / "renamed by its writer")
    os.utime(old, (1, 1))
    assert cached(new_run(tmp_path, make_pictures(tmp_path / "set", 1)), family)[1] == (0, 1, 0)
    assert not old.exists() and young.exists() and measure(shelf).files == 1


def test_progress_is_told_and_stands_in_the_status(family, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.cache.STATUS_SECONDS", 0.0)
    run, said = new_run(tmp_path, make_pictures(tmp_path / "set", 3)), []
    build_cache(run, store_of(run), family, lambda *told: said.append(told))
    assert said == [(what, done, 3) for what in ("looking at pictures", "reading pictures") for done in (1, 2, 3)]
    assert run.status().message == "reading pictures: 3 of 3"


def test_what_was_made_before_a_crash_is_not_made_again(family, tmp_path):
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 4))

    def killed(what, done, total):
        if (what, done) == ("reading pictures", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(run, store_of(run), family, killed)
    again, counts = cached(run, family)
    assert counts == (2, 2, 0)
    whole, _ = cached(new_run(tmp_path / "elsewhere", tmp_path / "set"), family)
    for mine, theirs in zip(again.pictures, whole.pictures, strict=True):
        first, second = (cache.latents.posterior(row.views[0]) for cache, row in ((again, mine), (whole, theirs)))
        assert torch.equal(first.mean, second.mean) and torch.equal(first.std, second.std)


def test_where_links_cannot_be_made_a_run_has_copies(family, tmp_path, monkeypatch):
    def refused(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    run = new_run(tmp_path, make_pictures(tmp_path / "set", 2))
    cache, _ = cached(run, family)
    shutil.rmtree(shelf_of(tmp_path))
    again, counts = cached(run, family)
    assert counts == (2, 0, 0) and again.pictures == cache.pictures


def test_latents_decode_to_what_the_vae_says(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1)
    cache, _ = cached(new_run(tmp_path, folder), family)
    posterior = cache.latents.posterior(cache.pictures[0].views[0])
    vae = family.part("vae")
    pixels = torch.tensor(list(open_picture(folder / "0.png").tobytes())).view(64, 64, 3).permute(2, 0, 1) / 127.5 - 1
    direct = vae.encode(pixels[None]).latent_dist.mean[0] * vae.config.scaling_factor
    torch.testing.assert_close(posterior.mean, direct.detach())
    assert (posterior.std > 0).all() and cache.pictures[0].name == "0.png"


def test_a_resolution_below_the_bases_step_is_refused(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 1)
    with pytest.raises(UserError, match="pixels"):
        cached(new_run(tmp_path, folder, resolution=8), family)


def notices(run: RunDir) -> list[str]:
    return [event["text"] for event in run.events() if event["kind"] == "notice"]


def mask(path: Path, size=(64, 64), level=255) -> None:
    Image.new("L", size, level).save(path)


def test_a_mask_that_cannot_be_used_is_named_and_its_picture_is_trained(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 4)
    shutil.copy(folder / "0.png", folder / "9.png")
    mask(folder / "0-masklabel.png")
    (folder / "0-masklabel.png").write_bytes((folder / "0-masklabel.png").read_bytes()[:60])
    mask(folder / "1-masklabel.png", (64, 32))
    mask(folder / "2-masklabel.png", (128, 128))
    run = new_run(tmp_path, folder)
    cache, _ = cached(run, family)
    assert [bool(row.views[0].mask) for row in cache.pictures] == [False, False, True, False, False]
    assert [text.split(" is ")[0] for text in notices(run)] == ["the mask 0-masklabel.png", "the mask 1-masklabel.png"]
    assert not [event for event in run.events() if event["kind"] == "quarantine"]


@pytest.mark.parametrize("change_it", [lambda path: mask(path, level=0), Path.unlink], ids=["edited", "gone"])
def test_a_mask_that_changes_while_it_is_measured_is_not_kept_under_the_old_name(family, tmp_path, change_it):
    folder = make_pictures(tmp_path / "set", 3)
    shutil.copy(folder / "0.png", folder / "9.png")
    mask(folder / "0-masklabel.png")
    run = new_run(tmp_path, folder)

    def edited(what, done, total):
        if (what, done) == ("looking at pictures", total):
            change_it(folder / "0-masklabel.png")

    cache = build_cache(run, store_of(run), family, edited)
    assert [row.name for row in cache.pictures] == ["1.png", "2.png", "9.png"], "the copy of it is innocent"
    (event,) = (event for event in run.events() if event["kind"] == "quarantine")
    assert event["picture"] == "0.png" and "0-masklabel.png" in event["reason"]
    mask(folder / "0-masklabel.png", level=0)
    again, _ = cached(new_run(tmp_path, folder), family)
    assert again.latents.mask(again.pictures[0].views[0]).max() == 0


def test_a_resume_does_not_take_another_mask(family, tmp_path):
    folder = make_pictures(tmp_path / "set", 2)
    mask(folder / "0-masklabel.png")
    run = new_run(tmp_path, folder)
    cached(run, family)
    mask(folder / "0-masklabel.png", level=0)
    assert cached(run, family)[1] == (3, 0, 0), "what is kept needs no file"
    shutil.rmtree(shelf_of(tmp_path))
    for path in (run.path / "cache").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="mask was changed"):
        cached(run, family)
