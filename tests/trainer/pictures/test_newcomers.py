"""Sets made for an import: nothing empty is left behind, and nobody loses what they brought meanwhile."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.trainer.pictures.samples import captions, picture
from trainer.contract.errors import UserError
from trainer.pictures import newcomers
from trainer.pictures.album import change, create_album, is_own, open_album
from trainer.pictures.importing import import_pictures
from trainer.pictures.newcomers import GUESTS, at_work, make_for_import


def make(folder: Path):
    return lambda: make_for_import(folder)


def broken(folder: Path) -> Path:
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_the_last_who_leaves_an_empty_set_takes_it_away(tmp_path):
    folder = tmp_path / "new"
    with at_work(folder, make(folder)):
        with at_work(folder, make(folder)):
            assert is_own(folder)
        assert is_own(folder), "the other one is still at work"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["empty", "full"])
def test_of_two_imports_into_one_new_set_neither_loses_anything(tmp_path, first):
    """One brings nothing, and ends first or last; the other is in the middle of its pictures meanwhile."""
    folder = tmp_path / "out"
    broken(tmp_path / "bad")
    for index, colour in enumerate(("red", "green", "blue")):
        picture(tmp_path / "good" / f"{index}.png", colour)
    ended = {name: threading.Event() for name in ("empty", "full")}
    begun, other = threading.Barrier(2), {"empty": "full", "full": "empty"}

    def bring(name: str, source: Path):
        def meet(done: int, total: int) -> None:
            if done == 1:
                begun.wait(60)
                if name != first:
                    ended[other[name]].wait(60)

        try:
            return import_pictures([source], folder, on_progress=meet)
        finally:
            ended[name].set()

    with ThreadPoolExecutor(2) as pool:
        asked = {
            name: pool.submit(bring, name, tmp_path / place) for name, place in (("empty", "bad"), ("full", "good"))
        }
    reports = {name: one.result() for name, one in asked.items()}
    assert len(reports["full"].accepted) == 3 and not reports["empty"].accepted
    assert len(captions(folder)) == 3 and all((folder / entry.file).is_file() for entry in open_album(folder).entries)
    assert not list((folder / GUESTS).glob("*")), "nothing of the imports is left"


def test_two_imports_that_bring_nothing_leave_nothing(tmp_path):
    bad = broken(tmp_path / "bad")
    both = [threading.Thread(target=import_pictures, args=([bad], tmp_path / "out")) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


def test_what_was_not_made_for_an_import_or_was_changed_stays(tmp_path):
    create_album(tmp_path / "mine")
    import_pictures([broken(tmp_path / "bad")], tmp_path / "mine")
    assert is_own(tmp_path / "mine")
    assert not make_for_import(tmp_path / "mine")
    folder = tmp_path / "typed"
    with at_work(folder, make(folder)):
        change(folder, "trigger word", lambda album: album.model_copy(update={"trigger": "sks"}))
    assert open_album(folder).trigger == "sks"
    (tmp_path / "empty").mkdir()
    import_pictures([tmp_path / "bad"], tmp_path / "empty")
    assert (tmp_path / "empty").is_dir(), "a folder of the user's own"


def test_an_import_that_was_killed_is_no_guest_any_more(tmp_path):
    folder = tmp_path / "new"
    code = f"""
import os
from pathlib import Path
from trainer.pictures.newcomers import at_work, make_for_import
folder = Path({str(folder)!r})
with at_work(folder, lambda: make_for_import(folder)):
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list((folder / GUESTS).glob("*-*"))) == 1
    import_pictures([broken(tmp_path / "bad")], folder)
    assert not folder.exists()


def test_many_who_come_and_go_always_find_a_set(tmp_path):
    folder = tmp_path / "out"

    def visit(_: int) -> bool:
        with at_work(folder, make(folder)):
            return is_own(folder)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(visit, range(60)))
    assert not is_own(folder), "the last one took it away"


def test_a_set_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(newcomers, "PATIENCE", 0.05)
    (tmp_path / "out").write_text("a file of that name")
    with pytest.raises(UserError, match="Not a directory"):
        import_pictures([broken(tmp_path / "bad")], tmp_path / "out")
