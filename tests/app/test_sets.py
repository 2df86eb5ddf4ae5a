"""Sets of pictures: uploads keep their captions, deleting has a way back."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from app.views import sets
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.pictures.album import locate, open_album
from trainer.pictures.captions import read_caption, write_caption
from trainer.pictures.importing import import_pictures


def picture(path: Path, shade: int, caption: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade, 90, 90)).save(path)
    if caption:
        write_caption(path, caption)
    return path


def test_two_pictures_of_one_name_both_come_in_with_their_own_captions(tmp_path: Path) -> None:
    """A browser drops the folders of an upload: each file arrives alone in a folder of the server."""
    arrived = []
    for number, (shade, caption) in enumerate([(10, "first"), (20, "second")]):
        place = tmp_path / "uploads" / str(number)
        arrived += [picture(place / "1.png", shade, caption), (place / "1.txt")]
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as bundle:
        bundle.write(picture(tmp_path / "1.png", 30, "third"), "inside/1.png")
        bundle.write(tmp_path / "1.txt", "inside/1.txt")
    target = tmp_path / "set"
    report = import_pictures(sets.stage([*arrived, tmp_path / "more.zip"], tmp_path / "staged"), target)
    assert len(report.accepted) == 3
    shades = {"first": 10, "second": 20, "third": 30}
    entries = open_album(target).entries
    found = {entry.captions[0]: Image.open(locate(target, entry.file)).getpixel((0, 0)) for entry in entries}
    assert found == {caption: (shade, 90, 90) for caption, shade in shades.items()}


def test_delete_and_undo(tmp_path: Path) -> None:
    kept, gone = picture(tmp_path / "set" / "a.png", 1, "a"), picture(tmp_path / "set" / "b.png", 2, "b")
    folder = kept.parent
    sets.delete(folder, gone)
    assert sets.files(folder) == [kept]
    assert sets.undelete(folder) == "b.png"
    assert sets.files(folder) == [kept, gone] and read_caption(gone) == "b"
    with pytest.raises(UserError, match="nothing was deleted"):
        sets.undelete(folder)


def test_undo_does_not_overwrite(tmp_path: Path) -> None:
    gone = picture(tmp_path / "set" / "a.png", 1)
    sets.delete(gone.parent, gone)
    picture(gone, 200)
    with pytest.raises(UserError, match="is there already"):
        sets.undelete(gone.parent)
    assert len(sets.deleted(gone.parent)) == 1


def test_names_of_sets_never_collide_or_escape(tmp_path: Path) -> None:
    home = find_home(tmp_path)
    assert sets.create(home, "../../etc").parent == home / "datasets"
    assert [sets.create(home, "").name for _ in range(2)] == ["my-pictures", "my-pictures-2"]


def test_an_empty_set_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        sets.check(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no picture in this set"):
        sets.check(tmp_path)
