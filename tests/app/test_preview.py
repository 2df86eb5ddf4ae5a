"""The resident engine seen from the page: kept warm, newest request first, started anew when it dies."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.preview import Engine, new_id
from app.tabs.preview import _draw
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
    drawn: dict[GenerateRequest, str] = {}
    for adapters, known in ((("a", "b"), 1), (("a",), 1), (("b",), 2), ((), 3)):
        plain = request("cat").model_copy(update={"adapters": adapters, "out": str(tmp_path)})
        for number in range(2):
            Image.new("RGB", (8, 8)).save(f"{plain.id}-{number}.png")
        list(_draw(None, engine, drawn, (plain, (1.0,) * len(adapters), ("a run is broken",)), "page"))  # type: ignore[arg-type]
        assert len(drawn) == known


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
