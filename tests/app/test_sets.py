"""Sets in the page: a plain folder becomes one of the user's own without being touched; nothing else is changed."""

import os
from pathlib import Path

import pytest
from PIL import Image

from app.views import pictures, sets
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.pictures.album import FILE, edit, is_own, locate, undo


def picture(path: Path, shade: int, caption: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), (shade, 90, 90)).save(path)
    if caption:
        path.with_suffix(".txt").write_text(caption)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = find_home(tmp_path / "home")
    picture(home / "datasets" / "mine" / "1_sks dog" / "1.png", 1, "a dog")
    picture(home / "datasets" / "mine" / "2.png", 2)
    return home


def test_a_plain_folder_is_adopted_when_it_is_first_changed(home: Path) -> None:
    folder = home / "datasets" / "mine"
    before = sets.album(folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not is_own(folder), "looking at a folder leaves it as it is"
    sets.editable(home, folder)
    assert is_own(folder)
    assert sets.album(folder) == before, "the pictures keep their ids: those that the page shows still mean them"
    edit(folder, "caption", [before.entries[0].id], lambda one: one.model_copy(update={"captions": ("new",)}))
    assert {path: path.read_bytes() for path in files} == files
    assert sets.captions(folder) == ["new", ""]
    undo(folder)
    assert sets.captions(folder) == ["a dog", ""]
    assert all(locate(folder, entry.file).is_file() for entry in sets.album(folder).entries)


@pytest.mark.parametrize("place", ["elsewhere", "home/runs/mine", "home/datasets", "home/datasets/mine/1_sks dog"])
def test_only_the_users_own_sets_are_changed(home: Path, place: str) -> None:
    folder = home.parent / place
    picture(folder / "a.png", 3)
    with pytest.raises(UserError, match="not one of yours"):
        sets.editable(home, folder)
    assert not (folder / FILE).exists()


def test_a_set_is_read_anew_when_another_program_changed_it(home: Path) -> None:
    folder = home / "datasets" / "mine"
    sets.editable(home, folder)
    first = sets.album(folder)
    assert sets.album(folder) is first, "it is parsed once for each version"
    text = (folder / FILE).read_text()
    facts = (folder / FILE).stat()
    (folder / "new").write_text(text.replace("a dog", "a cat"))
    os.utime(folder / "new", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "new").replace(folder / FILE)
    assert sets.captions(folder)[0] == "a cat"


def test_a_damaged_set_is_told_and_harms_no_other(home: Path) -> None:
    folder = home / "datasets" / "broken"
    folder.mkdir()
    (folder / FILE).write_text("{nonsense")
    assert {path.name for path in sets.own(home)} == {"mine", "broken"}
    assert "damaged" in sets.summary_html(home, str(folder))
    assert sets.trigger(folder) == "" and sets.captions(folder) == []
    with pytest.raises(UserError, match="damaged"):
        sets.check(folder)


def test_names_of_sets_never_collide_or_escape(tmp_path: Path) -> None:
    home = find_home(tmp_path)
    assert sets.create(home, "../../etc").parent == home / "datasets"
    assert [sets.create(home, "").name for _ in range(2)] == ["my-pictures", "my-pictures-2"]


def test_an_empty_set_cannot_be_trained_on(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        sets.check(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no picture in this set"):
        sets.check(sets.create(home, "empty"))
    folder = home / "datasets" / "mine"
    sets.editable(home, folder)
    ids = [entry.id for entry in sets.album(folder).entries]
    edit(folder, "leave out", ids, lambda entry: entry.model_copy(update={"excluded": True}))
    with pytest.raises(UserError, match="left out"):
        sets.check(folder)


def test_small_copies_know_which_way_up_a_photo_is(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert pictures.size(path) == (20, 40)
    assert Image.open(pictures.copy(tmp_path, path, 16)).size == (8, 16)  # type: ignore[arg-type]
    (tmp_path / "no.png").write_bytes(b"nothing")
    assert pictures.size(tmp_path / "no.png") is None and pictures.size(tmp_path / "gone.png") is None


def test_the_oldest_copies_go_first(tmp_path: Path) -> None:
    for number in range(4):
        copy = pictures.copy(tmp_path, picture(tmp_path / f"{number}.png", number * 60))
        os.utime(str(copy), (number, number))
    left = sorted(pictures.cache(tmp_path).glob("*.webp"), key=lambda path: path.stat().st_mtime)
    pictures.sweep(tmp_path, keep=sum(path.stat().st_size for path in left[2:]))
    assert sorted(pictures.cache(tmp_path).glob("*.webp")) == sorted(left[2:])


@pytest.mark.parametrize("trigger", ["cat", " Red  dog ", "woman"])
def test_a_trigger_that_is_a_common_word_is_warned_of(trigger: str) -> None:
    shown = sets.trigger_note_html(trigger)
    assert f"“{' '.join(trigger.split())}” is a common word" in shown and "rare" in shown


@pytest.mark.parametrize("trigger", ["", None, "sks", "ohwx", "sks dog", "<b>"])
def test_a_rare_trigger_is_not(trigger: str | None) -> None:
    assert sets.trigger_note_html(trigger) == ""


def test_a_sample_set_says_what_it_is_there_to_teach(home: Path) -> None:
    for key, folder in sets.sample_folders().items():
        assert sets.teaches(folder) == sets.teaches(str(home / "datasets" / f"sample-{key}")) == key
    assert [sets.teaches(path) for path in (home / "datasets" / "subject", "", None)] == ["", "", ""]
