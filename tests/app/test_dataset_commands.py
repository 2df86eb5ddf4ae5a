"""`atelier dataset import` and `export`, as scripts use them."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.pictures.album import open_album


def atelier(home: Path, *words: object) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-P", "-m", "app", "dataset", *map(str, words), "--data-dir", str(home), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_set_goes_in_and_comes_out(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(source / "a [b].png")
    (source / "a [b].txt").write_text("said")
    (source / "broken.png").write_bytes(b"\x89PNG")
    said, told = atelier(tmp_path, "import", "mine", source, "--background", "#ff0000", "--concept", "things")
    assert (said["seen"], said["accepted"], said["duplicates"], said["others"]) == (2, ["a [b].png"], [], 1)
    assert "rejected" in told and "broken.png" in told
    album = open_album(Path(said["folder"]))
    assert (album.background, album.entries[0].concept, list(album.concepts)) == ("#ff0000", "things", ["things"])
    assert album.entries[0].id == said["ids"][0]
    answer, _ = atelier(tmp_path, "export", "mine", "--out", tmp_path / "out.zip")
    assert answer["pictures"] == 1
    with zipfile.ZipFile(answer["file"]) as archive:
        assert sorted(archive.namelist()) == ["a [b]-masklabel.png", "a [b].png", "a [b].txt"]


def test_references_are_asked_for_and_zips_cannot_be(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    said, _ = atelier(tmp_path, "import", "mine", tmp_path / "a.png", "--reference")
    assert open_album(Path(said["folder"])).entries[0].file == str(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    refused, _ = atelier(tmp_path, "import", "mine", tmp_path / "a.zip", "--reference")
    assert refused["ok"] is False and "zip" in refused["problem"]


def test_an_import_of_nothing_fails_with_its_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG")
    refused, _ = atelier(tmp_path, "import", "mine", tmp_path / "in")
    assert refused["ok"] is False and "Nothing was imported" in refused["problem"] and "broken.png" in refused["fix"]
    assert not (tmp_path / "datasets" / "mine").exists()
