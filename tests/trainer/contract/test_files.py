"""Files are replaced as a whole, or stay what they were."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainer.contract.errors import UserError
from trainer.contract.files import clear_unfinished, write_atomic


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    (tmp_path / "a.txt").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(UserError):
        write_atomic(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_threads_that_write_one_file_at_once_leave_it_whole(tmp_path):
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda text: write_atomic(tmp_path / "a.txt", text), texts))
            assert (tmp_path / "a.txt").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_dead_process_was_writing_is_cleared_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f".a.png.{pid}.tmp" for pid in (gone.pid, os.getpid(), os.getppid())] + [".b.tmp", "a.png"]
    for name in names:
        (tmp_path / "samples" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "samples" / name).touch()
    clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == sorted(names[2:])
