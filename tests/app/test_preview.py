"""The resident engine seen from the page: kept warm, newest request first, started anew when it dies."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.preview import Engine, new_id
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
