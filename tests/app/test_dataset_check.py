"""`atelier dataset check` on real files."""

import json
import subprocess
import sys

import pytest
from PIL import Image, ImageFilter

from tests.trainer.pictures.drawn import discs
from trainer.pictures.album import Album, Entry, create_album, identity, open_album, undo


def check(home, *arguments):
    command = [sys.executable, "-P", "-m", "app", "dataset", "check", *map(str, arguments), "--data-dir", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def told(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    (folder / "more").mkdir(parents=True)
    for number in range(5):
        discs(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number} of ohwx")
    discs(5).save(folder / "more" / "bare [red].png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "drawing.psd").write_bytes(b"8BPS")
    return folder


def test_scripts_get_all_there_is_to_know(plain, tmp_path):
    done = check(tmp_path / "home", plain, "--resolution", 256, "--trigger", "ohwx", "--json")
    assert done.returncode == 0, done.stderr
    found = told(done)
    assert found["folder"] == str(plain)
    assert (found["pictures"], found["excluded"], found["fixed"]) == (6, 0, [])
    assert found["without_caption"] == ["more/bare [red].png"]
    assert [path for path, _ in found["skipped"]] == [str(plain / "broken.jpg"), str(plain / "drawing.psd")]
    assert all(reason for _, reason in found["skipped"])
    kinds = {finding["kind"]: finding for finding in found["findings"]}
    assert set(kinds) == {"unreadable", "missing", "foreign"}
    bare = {"id": identity("more/bare [red].png"), "name": "more/bare [red].png", "value": "trained as “ohwx”"}
    assert kinds["missing"]["pictures"] == [bare]
    assert kinds["foreign"]["about"] == "drawing.psd"


def test_people_get_a_table(plain, tmp_path):
    done = check(tmp_path / "home", plain, "--resolution", 256)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "Cannot be read" in text and "Without a caption" in text and "6 pictures in" in text
    assert "[red]" in text  # names are shown as they are


def test_a_plain_folder_is_not_fixed(plain, tmp_path):
    done = check(tmp_path / "home", plain, "--resolution", 256, "--fix", "unreadable")
    assert done.returncode == 2
    assert "plain folder" in done.stderr and "import" in done.stderr


def test_a_set_is_fixed_and_looked_at_again(tmp_path):
    folder = tmp_path / "home" / "datasets" / "mine"
    folder.mkdir(parents=True)
    entries = []
    for number in range(7):
        image = discs(number).filter(ImageFilter.GaussianBlur(4)) if number == 6 else discs(number)
        image.save(folder / f"{number}.png")
        entries.append(Entry(id=identity(str(number)), file=f"{number}.png", name=f"{number}.png"))
    create_album(folder, Album(entries=tuple(entries), trigger="ohwx"))
    wrong = check(tmp_path / "home", "mine", "--resolution", 256, "--fix", "duplicate")
    assert wrong.returncode == 2 and "blur, missing" in wrong.stderr
    done = check(tmp_path / "home", "mine", "--resolution", 256, "--fix", "blur", "--fix", "missing", "--json")
    assert done.returncode == 0, done.stderr
    found = told(done)
    assert (found["pictures"], found["excluded"]) == (6, 1)
    assert found["fixed"] == ["Leave the blurred pictures out", "Write the trigger and class word as captions"]
    assert found["findings"] == []
    assert open_album(folder).entries[0].captions == ("ohwx",)
    assert undo(folder) == "Write the trigger and class word as captions"


def test_what_is_there_instead_of_pictures_is_said(tmp_path):
    (tmp_path / "film.mp4").touch()
    (tmp_path / "a.png").touch()
    done = check(tmp_path / "home", tmp_path)
    assert done.returncode == 2
    assert "1 .mp4" in done.stderr and "a.png: The file is empty." in done.stderr


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: Image.new("RGB", (9, 9)).save(folder / "a.tga")])
def test_a_folder_without_pictures_is_a_fault_in_what_was_asked(tmp_path, make):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    done = check(tmp_path / "home", folder)
    assert done.returncode == 2
    assert "no readable picture" in done.stderr
