"""Reading a data set folder."""

import hashlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry, create_album
from trainer.pictures.folder import Record, fingerprint, scan
from trainer.pictures.listing import natural_key


def picture(path, size=(8, 4), colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_scan_reads_pictures_captions_sizes_and_digests(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "10.png", exif=exif)
    two = picture(tmp_path / "2.png")
    picture(tmp_path / "sub" / "1.JPG")
    (tmp_path / "2.txt").write_text("a  fox\n")
    (tmp_path / "notes.md").write_text("not a caption")
    for hidden in (".thumb.png", "__MACOSX/._2.png", ".cache/3.png"):
        picture(tmp_path / hidden)
    found = scan(tmp_path)
    assert [record.path.relative_to(tmp_path).as_posix() for record in found.records] == [
        "2.png",
        "10.png",
        "sub/1.JPG",
    ]
    assert found.records[0] == Record(two, "a fox", (8, 4), hashlib.sha256(two.read_bytes()).hexdigest())
    assert found.records[1].size == (4, 8)
    assert found.skipped == ()


def test_a_broken_picture_is_named_and_the_rest_goes_on(tmp_path):
    good = picture(tmp_path / "good.png", (64, 64))
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "layers.psd").write_bytes(b"8BPS")
    found = scan(tmp_path)
    assert [record.path for record in found.records] == [good]
    reasons = {item.path.name: item.reason for item in found.skipped}
    assert "cut off" in reasons["cut.png"]
    assert ".psd" in reasons["layers.psd"]


def test_errors_say_what_was_seen_and_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        scan(tmp_path / "missing")
    file = picture(tmp_path / "some" / "a.png")
    with pytest.raises(UserError) as caught:
        scan(file)
    assert str(file.parent) in caught.value.fix
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError) as caught:
        scan(tmp_path / "none")
    assert "empty" in caught.value.fix
    (tmp_path / "none" / "film.mp4").touch()
    (tmp_path / "none" / "a.png").touch()
    with pytest.raises(UserError) as caught:
        scan(tmp_path / "none")
    assert "1 .mp4" in caught.value.fix
    assert "a.png: The file is empty." in caught.value.fix


def test_fingerprint_follows_pictures_captions_and_order_but_not_place(tmp_path):
    first, second = (Record(tmp_path / name, "text", (1, 1), name * 32) for name in ("aa", "bb"))
    base = fingerprint([first, second])
    assert base == fingerprint([Record(tmp_path / "moved", "text", (1, 1), "aa" * 32), second])
    others = [
        [second, first],
        [first],
        [Record(first.path, "other", (1, 1), first.digest), second],
        [Record(first.path, "text", (1, 1), "cc" * 32), second],
    ]
    assert len({base, *(fingerprint(records) for records in others)}) == len(others) + 1


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
    found = scan(folder)
    assert [(record.path, record.caption) for record in found.records] == [
        (folder / "pictures" / "aa" / "aa.png", "a cat"),
        (outside, ""),
    ]
    assert [item.path.name for item in found.skipped] == ["gone.png"]
