"""The files of a folder, in the order in which people count; and a plain folder read as a set."""

import hashlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.trainer.pictures.samples import picture
from trainer.contract.config import DatasetSection
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry, create_album
from trainer.pictures.doctor import examine
from trainer.pictures.gather import gather
from trainer.pictures.listing import natural_key
from trainer.pictures.measure import Unusable, measure_all


def measured(folder):
    return measure_all(gather(DatasetSection(path=str(folder)))[0], masks=False)


def test_a_plain_folder_gives_pictures_captions_sizes_and_digests(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "10.png", exif=exif)
    two = picture(tmp_path / "2.png")
    picture(tmp_path / "sub" / "1.JPG")
    (tmp_path / "2.txt").write_text("a  fox\n")
    (tmp_path / "notes.md").write_text("not a caption")
    for hidden in (".thumb.png", "__MACOSX/._2.png", ".cache/3.png"):
        picture(tmp_path / hidden)
    found = measured(tmp_path)
    assert [item.picture.path.relative_to(tmp_path).as_posix() for item in found] == ["2.png", "10.png", "sub/1.JPG"]
    assert found[0].picture.entry.captions == ("a fox",)
    assert (found[0].size, found[0].digest) == ((8, 4), hashlib.sha256(two.read_bytes()).hexdigest())
    assert found[1].size == (4, 8)


def test_a_broken_picture_is_named_and_the_rest_goes_on(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-40])
    (tmp_path / "layers.psd").write_bytes(b"8BPS")
    found = examine(tmp_path)
    assert list(found.sizes.values()) == [(64, 64)]
    reasons = {path.name: reason for path, reason in found.skipped}
    assert "cut off" in reasons["cut.png"]
    assert ".psd" in reasons["layers.psd"]
    _, skipped = gather(DatasetSection(path=str(tmp_path)))
    assert [(item.path.name, item.reason) for item in skipped] == [("layers.psd", reasons["layers.psd"])]


def test_errors_say_what_was_seen_and_what_to_do(tmp_path):
    def refused(folder):
        with pytest.raises(UserError) as caught:
            gather(DatasetSection(path=str(folder)))
        return caught.value

    assert "no such folder" in refused(tmp_path / "missing").problem
    file = picture(tmp_path / "some" / "a.png")
    assert str(file.parent) in refused(file).fix
    (tmp_path / "none").mkdir()
    assert "empty" in refused(tmp_path / "none").fix and "Put pictures" in refused(tmp_path / "none").fix
    (tmp_path / "none" / "film.mp4").touch()
    (tmp_path / "none" / "a.psd").write_bytes(b"8BPS")
    fix = refused(tmp_path / "none").fix
    assert "1 .mp4" in fix and "a.psd: .psd files are not supported" in fix
    entries = (Entry(id="c" * 32, file="x.png", name="x.png", excluded=True),)
    create_album(tmp_path / "set", Album(entries=entries))
    assert "Take some in again" in refused(tmp_path / "set").fix


@given(st.lists(st.from_regex(r"[a-zA-Z0-9_]{1,6}(/[a-zA-Z0-9]{1,4})?", fullmatch=True), unique=True))
def test_natural_order_is_total(names):
    keys = [natural_key(PurePosixPath(name)) for name in names]
    assert len(set(keys)) == len(names)
    sorted(keys)


def test_natural_order_counts_as_people_do():
    names = ["1.png", "2.png", "10.png", "a1.png", "A2.png", "a10.png", "b/1.png"]
    assert sorted(map(PurePosixPath, reversed(names)), key=natural_key) == list(map(PurePosixPath, names))


def test_a_set_of_the_users_own_is_read_by_its_file(tmp_path):
    outside = picture(tmp_path / "elsewhere" / "b.png", colour="blue")
    folder = tmp_path / "set"
    picture(folder / "pictures" / "aa" / "aa.png")
    (folder / "pictures" / "aa" / "aa.txt").write_text("no caption: the set has its own")
    entries = [
        Entry(id="a" * 32, file="pictures/aa/aa.png", name="my cat.png", captions=("a cat", "a tabby")),
        Entry(id="b" * 32, file=str(outside), name="b.png"),
        Entry(id="c" * 32, file="pictures/aa/aa.png", name="c.png", excluded=True),
        Entry(id="d" * 32, file="pictures/dd/gone.png", name="gone.png"),
    ]
    create_album(folder, Album(entries=tuple(entries)))
    *found, gone = measured(folder)
    assert [(item.picture.path, item.picture.entry.captions) for item in found] == [
        (folder / "pictures" / "aa" / "aa.png", ("a cat", "a tabby")),
        (outside, ()),
    ]
    assert isinstance(gone, Unusable) and gone.picture.entry.name == "gone.png"
