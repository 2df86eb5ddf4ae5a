"""A set as a zip, and back."""

import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.trainer.pictures.samples import captions, picture
from trainer.contract.errors import UserError
from trainer.pictures.album import open_album
from trainer.pictures.exporting import export_pictures, safe_names, safe_stem
from trainer.pictures.importing import ImportOptions, import_pictures


def test_a_set_comes_back_from_its_zip(tmp_path):
    for name, colour in (("10_sks dog/1.bmp", "red"), ("10_sks dog/1.png", "lime"), ("b/con.jpg", "blue")):
        picture(tmp_path / "in" / name, colour)
    (tmp_path / "in" / "10_sks dog" / "1.txt").write_text("one\ntwo\n")
    Image.new("L", (8, 4), 7).save(tmp_path / "in" / "b" / "con-masklabel.png")
    import_pictures([tmp_path / "in"], tmp_path / "set")
    assert export_pictures(tmp_path / "set", tmp_path / "out.zip") == 3
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == [
            "10_sks dog/1-2.png",
            "10_sks dog/1-2.txt",
            "10_sks dog/1.png",
            "10_sks dog/1.txt",
            "b/_con-masklabel.png",
            "b/_con.jpg",
        ]
    import_pictures([tmp_path / "out.zip"], tmp_path / "again")
    before, after = open_album(tmp_path / "set"), open_album(tmp_path / "again")
    assert {(one.id, one.captions, one.concept, one.mask) for one in before.entries} == {
        (one.id, one.captions, one.concept, one.mask) for one in after.entries
    }
    assert before.concepts == after.concepts


def test_a_referred_picture_that_is_gone_is_named_and_no_zip_is_left(tmp_path):
    path = picture(tmp_path / "in" / "a.png")
    import_pictures([tmp_path / "in"], tmp_path / "set", options=ImportOptions(reference=True))
    assert export_pictures(tmp_path / "set", tmp_path / "out.zip") == 1
    path.unlink()
    with pytest.raises(UserError, match="not there any more"):
        export_pictures(tmp_path / "set", tmp_path / "late.zip")
    assert not (tmp_path / "late.zip").exists()


def test_a_plain_folder_can_be_exported(tmp_path):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").write_text("said")
    assert export_pictures(tmp_path / "in", tmp_path / "out.zip") == 1
    import_pictures([tmp_path / "out.zip"], tmp_path / "set")
    assert captions(tmp_path / "set") == {"a.png": ("said",)}


@given(st.text(max_size=200))
def test_stems_fit_every_file_system(wanted):
    stem = safe_stem(wanted)
    assert 0 < len(stem.encode()) <= 130
    assert not set(stem) & set('<>:"/\\|?*\0\n')
    assert not stem.startswith(".")
    assert stem[-1] not in ". "
    assert stem.split(".")[0].casefold() not in {"con", "nul", "com1"}


@given(st.lists(st.sampled_from(["a.png", "A.jpg", "a-2.png", "b/a.png", "../a.png", "/a.png", "b\\a.png", ""])))
def test_names_are_told_apart_and_stay_inside(names):
    safe = list(safe_names(names))
    assert len({name.casefold() for name in safe}) == len(names)
    assert not any(name.startswith(("/", "..")) or "\\" in name for name in safe)


def test_no_picture_has_the_name_of_a_mask(tmp_path):
    assert list(safe_names(["foo.png", "foo-masklabel.webp"], "-masklabel")) == ["foo", "foo-masklabel-2"]
    assert list(safe_names(["foo-masklabel.webp", "foo.png"], "-masklabel")) == ["foo-masklabel", "foo-2"]
    picture(tmp_path / "in" / "foo.png", "red")
    picture(tmp_path / "in" / "foo-masklabel.webp", "blue", lossless=True)
    Image.new("L", (8, 4), 7).save(tmp_path / "in" / "foo-masklabel.png")
    import_pictures([tmp_path / "in"], tmp_path / "set")
    assert export_pictures(tmp_path / "set", tmp_path / "out.zip") == 2
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len({name.casefold() for name in archive.namelist()}) == 3
