"""What a zip may hold: nothing of it is written outside the set, and each part that is not taken has a reason."""

import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.pictures.samples import captions, encoded, picture, zipped
from trainer.contract.errors import UserError
from trainer.pictures import sources, storing
from trainer.pictures.importing import import_pictures
from trainer.pictures.listing import foreign_files, natural_key
from trainer.pictures.storing import read_place


def reasons(report):
    return {item.source.rpartition("/")[2]: item.reason for item in report.rejected}


def test_a_hostile_zip_stays_inside(tmp_path):
    members = {
        "../../evil.png": encoded("red"),
        "/abs.png": encoded("green"),
        "..\\win.png": encoded("blue"),
        "C:\\deep\\drive.png": encoded("lime"),
        "..": b"nothing",
    }
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    report = import_pictures([zipped(place / "in.zip", members)], place / "out")
    assert set(report.accepted) == {"evil.png", "abs.png", "win.png", "deep/drive.png"}
    assert "lead out of the zip" in "".join(report.notes)
    inside = set(tmp_path.rglob("*.png"))
    assert len(inside) == 4 and all(path.is_relative_to(place / "out" / "pictures") for path in inside)


def test_a_zip_bomb_is_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(sources, "MAX_ZIP_BYTES", 1100)
    monkeypatch.setattr(sources, "MAX_RATIO", 0)
    members = {"1.png": b"\0" * 5000, "2.png": encoded("red"), "3.png": b"\0" * 990, "4.png": b"\0" * 990}
    report = import_pictures([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert report.accepted == ("2.png",)
    found = reasons(report)
    assert "unpacks to more" in found["1.png"] and "unpacks to more" in found["4.png"]
    assert "not a picture" in found["3.png"]


def test_a_zip_that_lies_about_its_sizes_is_found_out(tmp_path):
    for name, stated in (("small", 10), ("large", 2**31)):
        archive = zipped(tmp_path / f"{name}.zip", {"a.png": encoded(size=(64, 64)), "b.png": encoded("blue")})
        data = bytearray(archive.read_bytes())
        struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, stated)  # APPNOTE 4.3.12
        archive.write_bytes(data)
        report = import_pictures([archive], tmp_path / f"out-{name}")
        assert report.accepted == ("b.png",), name
        assert len(report.rejected) == 1


def test_parts_that_share_their_bytes_are_refused(tmp_path):
    archive = zipped(tmp_path / "in.zip", {"a.png": encoded(), "b.png": encoded("blue")})
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", data, second + 42, 1)  # begins within the first
    archive.write_bytes(data)
    report = import_pictures([archive], tmp_path / "out")
    assert report.accepted == ("a.png",)
    assert "shares its bytes" in reasons(report)["b.png"]


def test_damaged_and_locked_zips_are_named(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK rubbish")
    whole = zipped(tmp_path / "cut.zip", {"a.png": encoded(), "b.png": encoded("blue")})
    whole.write_bytes(whole.read_bytes()[:-30])
    good = zipped(tmp_path / "flipped.zip", {"a.png": encoded()})
    data = bytearray(good.read_bytes())
    data[50] ^= 0xFF
    good.write_bytes(data)
    locked = zipped(tmp_path / "locked.zip", {"a.png": encoded(), "a.txt": "said"})
    data = bytearray(locked.read_bytes())
    for at in (6, data.index(b"PK\3\4", 1) + 6):
        data[at] |= 1  # "encrypted", in the member's own header and in the directory (APPNOTE 4.4.4)
    directory = data.index(b"PK\x01\x02")
    for at in (directory + 8, data.index(b"PK\x01\x02", directory + 1) + 8):
        data[at] |= 1
    locked.write_bytes(data)
    strange = zipped(tmp_path / "strange.zip", {"a.png": encoded()})
    data = bytearray(strange.read_bytes())
    data[8], data[data.index(b"PK\x01\x02") + 10] = 77, 77  # a way of packing that nobody knows
    strange.write_bytes(data)
    report = import_pictures(sorted(tmp_path.glob("*.zip")), tmp_path / "out")
    found = {item.source.removeprefix(f"{tmp_path}/"): item.reason for item in report.rejected}
    assert report.accepted == ()
    assert "zip is damaged" in found["no.zip"] and "zip is damaged" in found["cut.zip"]
    assert "damaged" in found["flipped.zip/a.png"]
    assert "password" in found["locked.zip/a.png"]
    assert "not known here" in found["strange.zip/a.png"]
    assert "a.txt" in report.notes[0] and "password" in report.notes[0]


def test_links_and_zips_in_a_zip_are_refused_and_equal_names_all_taken(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    inner = zipped(tmp_path / "inner.zip", {"x.png": encoded()}).read_bytes()
    members = [(link, "/etc/passwd"), ("inner.zip", inner), ("a.png", encoded("red")), ("A.png", encoded("blue"))]
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(tmp_path / "in.zip", [*members, ("a.png", encoded("lime")), ("a.txt", "said")])
    report = import_pictures([archive], tmp_path / "out")
    assert sorted(report.accepted) == ["A.png", "a.png", "a.png"]
    assert "a link" in reasons(report)["link.png"] and "zip inside" in reasons(report)["inner.zip"]
    assert captions(tmp_path / "out") == {"a.png": ("said",), "A.png": ("said",)}


def test_names_in_any_writing_find_their_captions(tmp_path):
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("ねこ.png", encoded("red"))
        opened.writestr("ねこ.txt", "cat")
        opened.writestr("cafe\u0301.png", encoded("blue"))  # as macOS parts the letter
        opened.writestr("caf\u00e9.TXT", "coffee")
        opened.writestr("naïve.png", encoded("lime"))
    data = archive.read_bytes()
    at = data.index("naïve".encode(), data.index(b"PK\x01\x02")) - 46
    data = data[: at + 8] + b"\0\0" + data[at + 10 :]  # UTF-8 without saying so
    local = data.rindex("naïve".encode(), 0, data.index(b"PK\x01\x02")) - 30
    archive.write_bytes(data[: local + 6] + b"\0\0" + data[local + 8 :])
    import_pictures([archive], tmp_path / "out")
    assert captions(tmp_path / "out") == {"ねこ.png": ("cat",), "caf\u00e9.png": ("coffee",), "naïve.png": ()}


def test_a_large_zip_of_the_64_bit_kind_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as opened, opened.open("a.png", "w", force_zip64=True) as member:
        member.write(encoded())
    assert import_pictures([tmp_path / "in.zip"], tmp_path / "out").accepted == ("a.png",)


def test_a_list_of_files_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "in.zip", {f"{index}.png": b"" for index in range(100)})
    monkeypatch.setattr(sources, "MAX_DIRECTORY_BYTES", 1000)
    report = import_pictures([archive], tmp_path / "out")
    assert "list of files" in reasons(report)["in.zip"]


def test_an_empty_zip_and_an_empty_folder_are_no_error(tmp_path):
    (tmp_path / "empty").mkdir()
    report = import_pictures([zipped(tmp_path / "in.zip", {}), tmp_path / "empty"], tmp_path / "out")
    assert (report.seen, report.others) == (0, 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    cut=st.floats(0, 1),
)
def test_a_zip_with_any_damage_is_listed_or_named(tmp_path, flips, cut):
    members = {"a.png": encoded(), "a.txt": "said", "metadata.csv": "file,caption\nb.png,x\n", "b.png": b"", "c": b"c"}
    data = bytearray(zipped(tmp_path / "whole.zip", members).read_bytes())
    for place, value in flips:
        data[int(place * len(data))] = value
    (tmp_path / "in.zip").write_bytes(data[: len(data) - int(cut * 60) if cut < 0.5 else len(data)])
    storing._open_zip.cache_clear()  # the same path, another file
    finds = sources.find_pictures([tmp_path / "in.zip"], tmp_path / "out")
    for item in finds.items:
        try:
            assert isinstance(read_place(item.place), bytes)
        except UserError as error:
            assert error.problem and error.fix
    assert finds.items or finds.rejected or finds.others


WITHOUT_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.mark.skipif(bool(WITHOUT_ROOT) and not shutil.which("setpriv"), reason="root may read everything")
def test_a_locked_folder_costs_its_pictures_only(tmp_path):
    for name, colour in (("a.png", "red"), ("locked/b.png", "blue"), ("locked/deep/c.png", "lime")):
        picture(tmp_path / "in" / name, colour)
    (tmp_path / "in" / "locked" / "b.txt").write_text("said")
    code = f"""
from pathlib import Path
from trainer.pictures.doctor import examine
from trainer.pictures.importing import import_pictures
source = Path({str(tmp_path / "in")!r})
print([(path.name, reason) for path, reason in examine(source).skipped])
report = import_pictures([source], Path({str(tmp_path / "out")!r}))
print(report.accepted, report.rejected, report.others)
"""
    (tmp_path / "in" / "locked").chmod(0o600)
    try:
        done = subprocess.run([*WITHOUT_ROOT, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    finally:
        (tmp_path / "in" / "locked").chmod(0o700)
    assert done.returncode == 0, done.stderr
    checked, imported = done.stdout.splitlines()
    assert "b.png" in checked and "Permission denied" in checked
    assert "('a.png',)" in imported and "locked/b.png" in imported and "Permission denied" in imported
    assert imported.endswith(" 1")


def test_a_picture_is_one_whatever_it_is_called(tmp_path):
    given = tmp_path / "in"
    picture(given / "w.png", "blue")
    for number, name in enumerate(("p.zip", "q.psd", "r.txt", "s.csv", "w.txt")):
        (given / name).write_bytes(encoded(("red", "lime", "cyan", "navy", "pink")[number], "JPEG"))
    (given / "raw.dng").write_bytes(encoded("teal", "TIFF"))  # the thumbnail of a raw photo is not the photo
    (given / "more.rar").write_bytes(b"Rar!")
    report = import_pictures([given], tmp_path / "out")
    assert captions(tmp_path / "out") == dict.fromkeys(("p.zip", "q.psd", "r.txt", "s.csv", "w.png", "w.txt"), ())
    found = reasons(report)
    assert ".dng files are not supported" in found["raw.dng"] and "only zips are" in found["more.rar"]
    single = import_pictures([given / "p.zip", given / "r.txt"], tmp_path / "single")
    assert set(single.accepted) == {"p.zip", "r.txt"}
    assert {path.name for path in foreign_files(given)} == {"raw.dng"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    report = import_pictures([tmp_path / "pipe", picture(tmp_path / "a.png")], tmp_path / "out")
    assert report.accepted == ("a.png",) and "no file" in reasons(report)["pipe"]


def test_numbers_of_any_length_sort_and_names_are_kept_to_a_length(tmp_path):
    members = {f"{'1' * 5000}.png": encoded("red"), f"{'2/' * 9000}x.png": encoded("blue"), "10.png": encoded("lime")}
    report = import_pictures([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert len(report.accepted) == 3 and max(map(len, report.accepted)) <= sources.MAX_NAME
    assert natural_key(PurePosixPath("9" * 5000)) < natural_key(PurePosixPath("1" + "0" * 5000))


def test_a_length_in_64_bits_counts_whatever_the_short_one_says(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # so that it is written
    archive = zipped(tmp_path / "in.zip", {"a.png": encoded(), "b.png": encoded("blue")})
    data = bytearray(archive.read_bytes())
    struct.pack_into("<Q", data, data.rindex(b"PK\6\6") + 40, 2**40)  # APPNOTE 4.3.14
    archive.write_bytes(data)
    assert "list of files" in reasons(import_pictures([archive], tmp_path / "out"))["in.zip"]


def test_names_of_japanese_windows_are_read(tmp_path):
    class Plain(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode("cp437"), self.flag_bits & ~0x800

    members = [(Plain(name.encode("cp932").decode("cp437")), data) for name, data in
               (("ねこ.png", encoded()), ("ねこ.txt", "cat"))] + [(Plain("café.png"), encoded("blue"))]  # fmt: skip
    import_pictures([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert captions(tmp_path / "out") == {"café.png": (), "ねこ.png": ("cat",)}


def test_what_is_said_of_many_files_is_said_once(tmp_path):
    archive = zipped(tmp_path / "in.zip", {f"{index}.txt": "said" for index in range(100)})
    data = bytearray(archive.read_bytes())
    for at in (found.start() for found in re.finditer(rb"PK\x01\x02", bytes(data))):
        data[at + 8] |= 1  # "encrypted"
    archive.write_bytes(data)
    alone = [tmp_path / f"{index}.txt" for index in range(100)]
    for path in alone:
        path.write_text("said")
    report = import_pictures([archive, *alone], tmp_path / "out")
    assert (report.seen, report.others, len(report.notes)) == (0, 200, 2)
    assert "0.txt and 99 others were not used: The zip has a password" in report.notes[0]
