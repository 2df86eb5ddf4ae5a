"""The resident engine seen from the page: kept warm, newest request first, started anew when it dies."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.preview import Engine, new_id
from app.tabs.preview.drawing import Desk, draft
from app.tabs.preview.drawing import draw as draw_both
from app.tabs.preview.form import AdapterRow, Form
from app.views import previews
from tests.app.saved_run import adapter_bytes
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path, (sys.executable, "-P", str(Path(__file__).with_name("fake_engine.py"))))
    yield engine
    engine.close()


def request(prompt: str) -> GenerateRequest:
    return GenerateRequest(id=new_id(), pictures=(Picture(prompt=prompt),), out="nowhere")


def draw(engine: Engine, prompt: str, slot: str = "page") -> dict[str, Any]:
    return list(engine.draw(request(prompt), slot))[-1]


def test_progress_then_files_from_one_process_that_is_kept(engine: Engine) -> None:
    kinds = [answer["kind"] for answer in engine.draw(request("cat"), "page")]
    assert kinds == ["progress"] * 3 + ["done"]
    assert draw(engine, "cat")["pid"] == draw(engine, "dog")["pid"]


def test_a_newer_request_of_the_page_cancels_the_older(engine: Engine) -> None:
    draw(engine, "cat")  # warm
    ends: list[dict[str, Any]] = []
    old = threading.Thread(target=lambda: ends.append(draw(engine, "slow")))
    old.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert draw(engine, "cat")["kind"] == "done"
    assert time.monotonic() - began < 2
    old.join(5)
    assert ends[0]["kind"] == "cancelled"


def test_the_base_is_drawn_again_for_another_first_adapter_since_that_sets_the_clip_skip(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, engine)
    library = tmp_path / "library"
    library.mkdir()
    for name in "ab":
        (library / f"{name}.safetensors").write_bytes(adapter_bytes(name, 1))
    for names, known in (("ab", 1), ("a", 1), ("b", 2), ("", 3)):
        rows = tuple(AdapterRow(file=str(library / f"{name}.safetensors")) for name in names)
        list(draw_both(desk, Form(prompt="cat", rows=rows), "page"))
        assert len(desk.bases) == known


def test_a_draft_is_marked_as_one_and_is_in_no_history(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    file = tmp_path / "library" / "a.safetensors"
    file.write_bytes(adapter_bytes("a", 1))
    desk, form = Desk(tmp_path, engine), Form(prompt="cat", rows=(AdapterRow(file=str(file)),))
    views = [json.loads(stage) for _, stage, _ in draft(desk, form, "page") if isinstance(stage, str)]
    assert [(view["mark"], view["download"]) for view in views] == [("draft", "")]
    assert views[0]["result"].startswith("data:image/") and not list(tmp_path.rglob("*.png"))
    assert previews.entries(tmp_path) == []
    bar, stage, past = list(draw_both(desk, form, "page"))[-1]
    shown = json.loads(stage)
    assert (shown["mark"], shown["width"], shown["height"]) == ("", 16, 8) and 'data-strengths="1.0"' in bar
    assert [one.id for one in previews.entries(tmp_path)] == [past]


def test_who_cancels_is_told_and_who_asks_for_something_newer_is_not(engine: Engine, tmp_path: Path) -> None:
    desk, slow = Desk(tmp_path, engine), Form(prompt="slow")
    for newer in (False, True):
        views = draw_both(desk, slow, "page")
        assert "Getting ready" in next(views)[0]
        assert "Cancel" in next(views)[0]
        if newer:
            threading.Thread(target=draw, args=(engine, "cat"), daemon=True).start()
        else:
            engine.cancel("page")
        rest = [bar for bar, _, _ in views if isinstance(bar, str)]
        assert any("Cancelled" in bar for bar in rest) != newer


def test_another_page_waits_its_turn_instead(engine: Engine) -> None:
    ends: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: ends.append(draw(engine, "cat", "other page")))
    other.start()
    assert draw(engine, "cat")["kind"] == "done"
    other.join(5)
    assert ends[0]["kind"] == "done"


def test_what_is_wrong_is_said_and_the_engine_lives_on(engine: Engine) -> None:
    with pytest.raises(UserError, match="this is wrong"):
        draw(engine, "wrong")
    assert draw(engine, "cat")["kind"] == "done"


def test_a_dead_engine_is_said_and_started_anew(engine: Engine) -> None:
    first = draw(engine, "cat")["pid"]
    with pytest.raises(UserError, match="exit code 3"):
        draw(engine, "die")
    assert draw(engine, "cat")["pid"] != first
