"""Captions by a model, begun by a page: one process a set, found again by any page, stopped without loss."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from app.jobs import beside, captioning
from app.jobs.beside import State
from app.jobs.captioning import Captioning
from app.tabs.dataset import captioner
from app.views import captioners
from tests.tiny_captioners import make_blip, make_tagger
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.requests import CaptionRequest
from trainer.pictures.album import WORDS, open_album, undo
from trainer.pictures.importing import import_pictures


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_blip(tmp_path_factory.mktemp("blip") / "blip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for number in range(24):
        Image.effect_noise((48 + number, 40), 90).convert("RGB").save(place / f"{number:02}.png")
    (place / "01.txt").write_text("mine")
    return place


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Iterator[Path]:
    folder = find_home(tmp_path / "home") / "datasets" / "mine"
    import_pictures([photos], folder)
    yield folder
    captioning.stop(folder)


def asked(folder: Path, model: object, **more: object) -> CaptionRequest:
    given = {"dataset": str(folder), "model": str(model), "prompt": "a photo of", "batch": 1, **more}
    return CaptionRequest.model_validate(given)


def until(folder: Path, holds: Callable[[Captioning], object]) -> Captioning:
    limit = time.monotonic() + 120
    while not holds(found := captioning.look(folder)):
        assert time.monotonic() < limit, found
        time.sleep(0.02)
    return found


def written(found: Captioning) -> int:
    return found.progress.done if found.progress else 0


def processes(folder: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]


def test_pressed_twice_stopped_killed_and_resumed_no_word_is_lost(folder: Path, blip: Path) -> None:
    assert captioning.look(folder).state is State.NONE and not html_of(folder)
    begun: list[bool] = []
    presses = [threading.Thread(target=lambda: begun.append(captioning.start(folder, asked(folder, blip))))
               for _ in range(4)]  # fmt: skip
    for press in presses:
        press.start()
    for press in presses:
        press.join()
    assert sorted(begun) == [False, False, False, True] and len(processes(folder)) == 1
    assert captioning.running(folder.parents[1]) == folder

    found = until(folder, lambda found: written(found) >= 3)
    shown = captioners.state_html(folder, open_album(folder), found)
    assert found.progress and found.progress.total == 23 and found.progress.caption.startswith("a photo of")
    assert 'data-state="running"' in shown and "of 23 pictures" in shown and "left" in shown
    names = {entry.id: entry.name for entry in open_album(folder).entries}
    assert names[found.progress.picture] in shown and found.progress.caption in shown
    captioning.stop(folder)
    stopped = captioning.look(folder)
    assert stopped.state is State.STOPPED and 3 <= written(stopped) < 23 and not processes(folder)
    assert captions(folder) == [() if number != 1 else ("mine",) for number in range(24)], "none of it is a caption yet"
    assert captioning.running(folder.parents[1]) is None

    assert captioning.resume(folder, known_only=True), "what is there can be used without the rest"
    done = until(folder, lambda found: found.state is State.DONE).answer
    assert done and done["asked"] == 0 and written(stopped) <= done["changed"] < 23
    assert f"{done['changed']} pictures got a caption" in html_of(folder)
    assert undo(folder) == "captions by blip" and captions(folder)[1] == ("mine",) and captions(folder)[0] == ()

    assert captioning.resume(folder), "at once: the process that is done may still be there"
    until(folder, lambda found: written(found) >= done["changed"] + 2)
    os.kill(max(processes(folder), key=lambda one: one.create_time()).pid, signal.SIGKILL)
    found = until(folder, lambda found: found.state is not State.RUNNING)
    assert found.state is State.LOST and found.error and "Resume" in found.error.fix
    assert "was interrupted" in html_of(folder)
    captioning.resume(folder)
    last = until(folder, lambda found: found.state is State.DONE).answer
    assert last and last["kept"] >= done["changed"] + 2 and last["kept"] + last["asked"] == last["changed"] == 23
    assert all(captions(folder)) and captions(folder)[1] == ("mine",)
    undo(folder)
    assert [bool(words) for words in captions(folder)] == [number == 1 for number in range(24)], "it was one change"


def html_of(folder: Path) -> str:
    return captioners.state_html(folder, open_album(folder), captioning.look(folder))


def captions(folder: Path) -> list[tuple[str, ...]]:
    return [entry.captions for entry in open_album(folder).entries]


def test_what_cannot_be_downloaded_is_said_in_the_page(folder: Path) -> None:
    captioning.start(folder, asked(folder, "florence-community/Florence-2-base", prompt=""))
    assert until(folder, lambda found: found.state is not State.RUNNING).state is State.FAILED
    shown = html_of(folder)
    assert "Hub cannot be reached" in shown and "hf download florence-community/Florence-2-base" in shown
    assert "--model" not in shown and "Model: " in shown, "options have another name in the page"


def test_a_package_that_is_missing_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "blocked" / "onnxruntime"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(blocked.parent), os.environ.get("PYTHONPATH", "")]))
    captioning.start(folder, asked(folder, make_tagger(tmp_path / "tagger"), prompt=""))
    found = until(folder, lambda found: found.state is not State.RUNNING)
    assert found.error and 'pip install "lora-atelier[captions]"' in str(found.error)


def test_what_stands_in_the_page_is_what_is_asked(tmp_path: Path) -> None:
    page = {"model": " SmilingWolf/wd-vit-tagger-v3 ", "mode": "append", "task": "brief", "prompt": "stays unused",
            "threshold": 0.5, "character_threshold": 0.9, "trigger": " sks ", "batch": 4, "revision": ""}  # fmt: skip
    request = captioner.asked(tmp_path, "", page)
    assert (request.model, request.threshold, request.trigger) == ("SmilingWolf/wd-vit-tagger-v3", 0.5, "sks")
    assert (request.task, request.prompt, request.chosen) == ("auto", "", ()), "taggers have no use for these"
    request = captioner.asked(tmp_path, "a b", {**page, "model": "someone/unknown", "batch": None})
    assert (request.task, request.prompt, request.chosen, request.batch) == ("brief", "stays unused", ("a", "b"), 8)
    for wrong in ({"model": " "}, {"batch": 0}, {"threshold": 2, "model": "some/tagger"}):
        with pytest.raises(UserError):
            captioner.asked(tmp_path, "", {**page, **wrong})


def test_the_fields_are_those_that_the_model_has_a_use_for(tmp_path: Path, blip: Path) -> None:
    assert captioners.asks("florence-community/Florence-2-base") == (False, True, False)
    assert captioners.asks(str(make_tagger(tmp_path / "tagger"))) == (True, False, False)
    assert captioners.asks(str(blip)) == (False, True, True)
    assert captioners.asks("someone/unknown") == captioners.asks("") == captioners.asks("\0") == (True, True, True)
    for one in captioners.OFFERED:
        assert one.licence in captioners.note_html(one.id) and one.size in captioners.note_html(one.id)


def test_a_request_of_another_version_is_as_none(folder: Path) -> None:
    place = folder / WORDS / "page"
    place.mkdir(parents=True)
    (place / beside.REQUEST).write_text(json.dumps({"model": "x", "of": "the future"}))
    assert captioning.look(folder).state is State.NONE
    with pytest.raises(UserError, match="nothing was begun"):
        captioning.resume(folder)
