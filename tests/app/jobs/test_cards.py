"""Several cards: a run on each, none on one that is taken; real processes, a driver that is pretended."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from app.jobs import queue, store, supervisor
from app.jobs.executors import local
from app.jobs.model import Shown
from app.views import progress, rows, status
from tests.app.jobs import test_jobs
from tests.app.jobs.test_jobs import shown, submit, wait
from trainer.contract import card as card_module
from trainer.contract.card import card_lock, cards
from trainer.contract.rundir import RunDir

TWO = ("GPU-aaaa", "GPU-bbbb")
DRIVER = Path(__file__).with_name("fake_driver")
home = test_jobs.home


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Two cards, for this process and those that it starts; their locks are nobody else's."""
    monkeypatch.setenv("FAKE_CARDS", ",".join(TWO))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(card_module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DRIVER), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(DRIVER))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    progress._cards.cache_clear()
    yield
    progress._cards.cache_clear()
    sys.modules.pop("pynvml", None)


def seen_by(home: Path, name: str) -> str:
    """What CUDA shows a run's process."""
    pid = int(store.jobs(home)[name].handle.split(":")[0])
    return psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES", "")


def test_each_card_has_a_run_and_the_third_waits(home: Path, two: None) -> None:
    for name in ("first", "second", "third"):
        submit(home, name, steps=2000, pause=0.02)
    wait(lambda: shown(home, "first") is Shown.TRAINING and shown(home, "second") is Shown.TRAINING)
    assert {seen_by(home, "first"), seen_by(home, "second")} == set(TWO)
    assert shown(home, "third") is Shown.WAITING
    words = rows.rows_html(queue.entries(home), "")
    assert "<span>card 0</span>" in words and "<span>card 1</span>" in words
    assert "1 more running" in status.text(home) and "1 waiting" in status.text(home)
    free = seen_by(home, "first")
    queue.stop(home, "first")
    wait(lambda: shown(home, "third") is Shown.TRAINING)
    assert seen_by(home, "third") == free


def test_a_card_that_a_training_outside_the_queue_holds_is_left_alone(home: Path, two: None) -> None:
    with FileLock(card_lock(TWO[0])):
        assert supervisor._free(home) == [TWO[1]]
        submit(home, "mine", steps=2000, pause=0.02)
        submit(home, "waits", steps=2)
        wait(lambda: shown(home, "mine") is Shown.TRAINING)
        assert seen_by(home, "mine") == TWO[1] and shown(home, "waits") is Shown.WAITING
    wait(lambda: shown(home, "waits") is Shown.DONE)


def test_trainings_on_different_cards_do_not_wait_for_each_other(home: Path, two: None) -> None:
    """The trainer's own lock: by its card, whatever data folder it works in."""
    code = (
        "import sys; from pathlib import Path; from trainer.__main__ import _device\n"
        "from trainer.contract.rundir import RunDir\n"
        "with _device(RunDir(Path(sys.argv[1])), 0): print('on it', flush=True); sys.stdin.read()"
    )
    runs = [queue.create_run(home, name, test_jobs.CONFIG) for name in ("one", "two", "three")]
    found = []
    for run, own in zip(runs, (TWO[0], TWO[1], TWO[0]), strict=True):
        environment = {**local.environment(), "CUDA_VISIBLE_DEVICES": own}
        found.append(
            subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(run.path)], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        if own == TWO[1] or len(found) == 1:
            assert found[-1].stdout is not None and found[-1].stdout.readline() == "on it\n"
    said = found[-1].communicate()[1]
    assert "a training holds the graphics card" in said
    for process in found[:2]:
        process.communicate("")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(None, TWO), ("", ()), ("1", TWO[1:]), ("1,0", TWO[::-1]), ("0,7,1", TWO[:1]), ("-1", ()), ("GPU-b", TWO[1:]),
     ("MIG-4f,1", ("MIG-4f", TWO[1])), ("none", ())],
)  # fmt: skip
def test_cards_are_those_that_cuda_would_show(
    two: None, monkeypatch: pytest.MonkeyPatch, wanted: str | None, given: tuple[str, ...]
) -> None:
    if wanted is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert cards() == given


@given(st.text(min_size=1))
def test_the_lock_of_a_card_is_a_plain_file_name(name: str) -> None:
    assert card_lock(name).parent == card_lock("GPU-1").parent and len(card_lock(name).parts) > 1


def test_without_a_driver_a_run_has_no_card(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: RunDir = submit(home, "plain", steps=2)
    wait(lambda: shown(home, "plain") is Shown.DONE)
    assert store.jobs(home)["plain"].card == "" and run.adapter_file.exists()
