"""A set's file: what is kept, what can be taken back, what a plain folder says."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.contract.errors import UserError
from trainer.pictures import album as albums
from trainer.pictures.album import Album, Concept, Entry, change, create_album, edit, identity, open_album


def entry(number, **more):
    return Entry(id=identity(str(number)), file=f"pictures/{number}.png", name=f"{number}.png", **more)


@pytest.fixture
def folder(tmp_path):
    create_album(tmp_path / "set", Album(entries=tuple(entry(number) for number in range(4))))
    return tmp_path / "set"


TEXT = st.text(max_size=30)


@given(TEXT, st.lists(TEXT, max_size=3), st.sampled_from([None, (0.25, 1.0)]), TEXT)
def test_a_set_is_read_as_it_was_written(tmp_path_factory, name, captions, focus, trigger):
    whole = Album(
        trigger=trigger,
        concepts={"a": Concept(trigger=trigger, repeats=3)},
        entries=(Entry(id=identity(name), file="x", name=name, captions=tuple(captions), focus=focus),),
    )
    assert albums.parse(albums.render(whole).encode("utf-8", "surrogatepass"), tmp_path_factory.getbasetemp()) == whole


def test_changes_are_taken_back_and_made_again(folder):
    first = open_album(folder)
    chosen = [first.entries[1].id]
    edit(folder, "captions", chosen, lambda one: one.model_copy(update={"captions": ("a cat",)}))
    change(folder, "trigger", lambda album: album.model_copy(update={"trigger": "ohwx"}))
    assert open_album(folder).trigger == "ohwx" and open_album(folder).entries[1].captions == ("a cat",)
    assert albums.next_undo(folder) == "trigger" and albums.undo(folder) == "trigger"
    assert albums.undo(folder) == "captions" and open_album(folder) == first and albums.undo(folder) == ""
    assert albums.next_redo(folder) == "captions" and albums.redo(folder) == "captions"
    change(folder, "another", lambda album: album.model_copy(update={"class_word": "dog"}))
    assert albums.redo(folder) == "", "what was taken back is gone once something else is done"
    assert albums.undo(folder) == "another" and albums.undo(folder) == "captions"


def test_a_change_that_changes_nothing_leaves_no_step(folder):
    change(folder, "nothing", lambda album: album)
    assert albums.next_undo(folder) == ""


def test_only_so_many_versions_are_kept(folder):
    for number in range(albums.STEPS_BACK + 5):
        change(folder, f"{number}", lambda album, number=number: album.model_copy(update={"trigger": f"t{number}"}))
    assert len(list((folder / albums.HISTORY).iterdir())) == albums.STEPS_BACK
    assert albums.undo(folder) == f"{albums.STEPS_BACK + 4}"


def test_changes_from_many_threads_all_arrive(folder):
    def add(number):
        change(folder, "add", lambda album: album.model_copy(update={"entries": (*album.entries, entry(number))}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(10, 22)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(open_album(folder).entries) == 16


def test_a_damaged_file_is_named_with_its_line(folder):
    lines = (folder / albums.FILE).read_text("utf-8").splitlines()
    (folder / albums.FILE).write_text("\n".join([*lines[:2], lines[2][:9]]), "utf-8")
    with pytest.raises(UserError, match="Line 3"):
        open_album(folder)


def test_a_plain_folder_is_read_and_never_changed(tmp_path):
    for name in ("10_sks dog/2.png", "10_sks dog/10.png", "reg/1_dog/a.png", "b.png", "b-masklabel.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "b.txt").write_text("first\nsecond")
    found = open_album(tmp_path)
    assert [one.name for one in found.entries] == ["10_sks dog/2.png", "10_sks dog/10.png", "b.png", "reg/1_dog/a.png"]
    assert found.entries[2].captions == ("first", "second") and found.entries[2].mask == "b-masklabel.png"
    assert found.concept_of(found.entries[0]) == Concept(trigger="sks dog", repeats=10)
    assert found.concept_of(found.entries[3]) == Concept(class_word="dog", regularisation=True)
    with pytest.raises(UserError, match="plain folder"):
        change(tmp_path, "x", lambda album: album)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_read_all_the_same(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Image.new("RGB", (8, 8), "red").save(os.fsdecode(raw))
    Path(os.fsdecode(raw)).with_suffix(".txt").write_text("a cup")
    (found,) = open_album(tmp_path).entries
    assert found.name == "caf?.png" and found.captions == ("a cup",)
    assert albums.parse(albums.render(open_album(tmp_path)).encode(), tmp_path) == open_album(tmp_path)
    assert albums.locate(tmp_path, found.file).is_file()


def test_a_year_is_no_number_of_repeats(tmp_path):
    (tmp_path / "2024_holiday").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "2024_holiday/a.png")
    assert open_album(tmp_path).concepts == {}


def test_a_set_that_cannot_be_locked_says_so(folder):
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").mkdir()
    with pytest.raises(UserError) as told:
        change(folder, "x", lambda album: album.model_copy(update={"trigger": "new"}))
    assert told.value.where == str(folder)
