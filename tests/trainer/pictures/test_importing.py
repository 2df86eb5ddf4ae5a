"""Importing from files, folders and zips."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.contract.errors import UserError
from trainer.pictures import importing, shelves
from trainer.pictures.folder import scan
from trainer.pictures.importing import _free_stem, import_pictures


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 4), colour).save(path)
    return path


def encoded(colour="red", kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 4), colour).save(file, kind)
    return file.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def captions(folder):
    return {record.path.name: record.caption for record in scan(folder).records}


def test_equal_names_in_different_folders_both_arrive(tmp_path):
    picture(tmp_path / "in" / "a" / "1.png", "red")
    picture(tmp_path / "in" / "b" / "1.jpg", "green")
    (tmp_path / "in" / "a" / "1.txt").write_text("from a")
    (tmp_path / "in" / "b" / "1.caption").write_text("from b")
    seen = []
    report = import_pictures([tmp_path / "in"], tmp_path / "out", lambda done, total: seen.append((done, total)))
    assert report.accepted == ("1.png", "1-2.jpg")
    assert captions(tmp_path / "out") == {"1.png": "from a", "1-2.jpg": "from b"}
    assert seen == [(1, 2), (2, 2)]
    assert (tmp_path / "in" / "a" / "1.png").exists()


def test_a_zip_gives_the_same_as_its_folder(tmp_path):
    members = {
        "deep/10.png": encoded("red"),
        "deep/2.png": encoded("green"),
        "deep/2.txt": "two",
        "deep/metadata.jsonl": json.dumps({"file_name": "10.png", "text": "ten"}) + "\n\nnot json\n",
        "__MACOSX/deep/._2.png": b"rubbish",
        "deep/.hidden.png": encoded("blue"),
    }
    archive = zipped(tmp_path / "in.zip", members)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "in")
    reports = [import_pictures([tmp_path / name], tmp_path / f"out-{name}") for name in ("in", "in.zip")]
    for report, name in zip(reports, ("in", "in.zip"), strict=True):
        assert report.accepted == ("2.png", "10.png")
        assert captions(tmp_path / f"out-{name}") == {"2.png": "two", "10.png": "ten"}
        assert len(report.notes) == 1
        assert "line 3" in report.notes[0]


def test_metadata_reaches_sub_folders_and_a_text_beside_wins(tmp_path):
    picture(tmp_path / "in" / "sub" / "a.png", "red")
    picture(tmp_path / "in" / "b.png", "blue")
    lines = [{"file_name": "sub/a.png", "text": "listed a"}, {"file_name": "b.png", "text": "listed b"}]
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "in" / "b.txt").write_text("beside b")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "out") == {"a.png": "listed a", "b.png": "beside b"}


def test_single_files_take_captions_beside_them_or_given_along(tmp_path):
    beside = picture(tmp_path / "x" / "a.png", "red")
    (tmp_path / "x" / "a.txt").write_text("beside")
    uploaded = picture(tmp_path / "y" / "b.jpg", "blue")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "b.txt").write_text("along")
    report = import_pictures([beside, tmp_path / "z" / "b.txt", uploaded], tmp_path / "out")
    assert report.seen == 2
    assert captions(tmp_path / "out") == {"a.png": "beside", "b.jpg": "along"}


def test_pixels_arrive_upright_in_srgb_without_metadata(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 3
    exif[270] = "where I live"
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png", exif=exif)
    Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "in" / "b.jpg", exif=exif, quality=90)
    import_pictures([tmp_path / "in"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as stored:
        assert np.array_equal(np.asarray(stored), pixels[::-1, ::-1])
    for name in ("a.png", "b.jpg"):
        assert b"where I live" not in (tmp_path / "out" / name).read_bytes()


def test_duplicates_and_rejected_are_counted(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    picture(tmp_path / "in" / "same.bmp", "red")
    (tmp_path / "in" / "broken.png").write_bytes(encoded()[:-30])
    (tmp_path / "in" / "raw.dng").touch()
    (tmp_path / "in" / "inner.zip").touch()
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert report.accepted == ("a.png",)
    assert [(item.source, item.same_as) for item in report.duplicates] == [(str(tmp_path / "in" / "same.bmp"), "a.png")]
    assert {item.source.rpartition("/")[2] for item in report.rejected} == {"broken.png", "raw.dng", "inner.zip"}
    assert report.seen == 5
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_importing_again_adds_nothing(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    picture(tmp_path / "in" / "b.jpg", "green")
    first = import_pictures([tmp_path / "in"], tmp_path / "out")
    again = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert first.accepted == ("a.png", "b.jpg")
    assert (again.accepted, len(again.duplicates)) == ((), 2)


def test_a_source_around_the_destination_does_not_eat_itself(tmp_path):
    picture(tmp_path / "a.png", "red")
    picture(tmp_path / "out" / "old.png", "blue")
    assert import_pictures([tmp_path], tmp_path / "out").seen == 1
    with pytest.raises(UserError, match="into itself"):
        import_pictures([tmp_path / "out"], tmp_path / "out")
    with pytest.raises(UserError, match="no such"):
        import_pictures([tmp_path / "gone"], tmp_path / "out")


def test_a_hostile_zip_stays_inside(tmp_path):
    members = {"../../evil.png": encoded("red"), "/abs.png": encoded("green"), "..\\win.png": encoded("blue")}
    (tmp_path / "a" / "b").mkdir(parents=True)
    archive = zipped(tmp_path / "a" / "b" / "in.zip", members)
    report = import_pictures([archive], tmp_path / "a" / "b" / "out")
    assert len(report.accepted) == 3
    inside = set(tmp_path.rglob("*.png"))
    assert {path.parent for path in inside} == {tmp_path / "a" / "b" / "out"}


def test_a_zip_bomb_is_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(shelves, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(shelves, "MAX_ZIP_BYTES", 1800)
    members = {"1.png": b"\0" * 5000, "2.png": encoded("red"), "3.png": b"\0" * 990, "4.png": encoded("blue")}
    report = import_pictures([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert report.accepted == ("2.png",)
    reasons = [item.reason for item in report.rejected]
    assert "unpacks to more" in reasons[0]
    assert "unpacks to more" in reasons[1]


def test_damaged_and_locked_zips_are_named(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK rubbish")
    good = zipped(tmp_path / "flipped.zip", {"a.png": encoded()})
    data = bytearray(good.read_bytes())
    data[50] ^= 0xFF
    good.write_bytes(data)
    locked = zipped(tmp_path / "locked.zip", {"a.png": encoded()})
    data = bytearray(locked.read_bytes())
    data[6] |= 1  # "encrypted", in the member's own header and in the directory (APPNOTE 4.4.4)
    data[data.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    report = import_pictures(sorted(tmp_path.glob("*.zip")), tmp_path / "out")
    reasons = {item.source: item.reason for item in report.rejected}
    assert report.accepted == ()
    assert "zip is damaged" in reasons[str(tmp_path / "no.zip")]
    assert "damaged" in reasons[f"{tmp_path}/flipped.zip/a.png"]
    assert "password" in reasons[f"{tmp_path}/locked.zip/a.png"]


def test_the_caption_is_there_before_its_picture(tmp_path, monkeypatch):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").write_text("text")
    order = []
    write = importing.write_atomic
    monkeypatch.setattr(importing, "write_atomic", lambda path, data: (order.append(path.name), write(path, data)))
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert order == ["a.txt", "a.png"]


@given(st.text(max_size=200), st.sets(st.sampled_from(["picture", "con", "a", "a-2"])))
def test_stems_are_free_and_fit_every_file_system(wanted, taken):
    stem = _free_stem(wanted, taken)
    assert stem.casefold() not in taken
    assert 0 < len(stem.encode()) <= 130
    assert not set(stem) & set('<>:"/\\|?*\0\n')
    assert not stem.startswith(".")
    assert stem[-1] not in ". "
    assert stem.split(".")[0].casefold() not in {"con", "nul", "com1"}
