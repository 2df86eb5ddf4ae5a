"""Another trainer is watched through its progress bar: here a real child process with a real tqdm."""

import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.cases import TARGETS, parse_case
from benchmarks.peers import ATTENTION, Bar, Checkouts, diffusers_best, length, train
from benchmarks.processes import tail, watch
from benchmarks.sets import make_pictures

TRAINER = """
    import argparse, pathlib, sys, time
    from tqdm import tqdm
    known, _ = argparse.ArgumentParser().parse_known_args()
    total = int(next(one for one in sys.argv if one.startswith("--max_train_steps=")).split("=")[1])
    for _ in tqdm(range(7), desc="caching"):
        pass
    bar = tqdm(range(total), desc="steps")
    for step in range(total):
        time.sleep(0.5 if step == 0 else 0.02)
        bar.update(1)
        bar.set_postfix(loss=step)
    sys.stderr.write("\\nPEAK-BYTES 1073741824 2147483648\\n")
    sys.exit(EXIT)
"""


@pytest.fixture
def work(tmp_path):
    make_pictures(tmp_path / "peers" / "kohya-512" / "100_pictures", 16, [(8, 8)])
    return tmp_path


def trainer(folder, code=0, more=""):
    folder.mkdir()
    (folder / "train_network.py").write_text(textwrap.dedent(TRAINER).replace("EXIT", str(code)) + more)
    return folder


def test_rate_first_step_and_peak_of_a_peer(work):
    case = parse_case("kohya:sd15:8")
    row = train(case, work, 30, Checkouts(kohya=trainer(work / "kohya")))
    assert row.code == 0, row.note
    assert not row.ours
    assert row.window >= 0.5 * length(case)
    assert 30 < row.rate < 50  # fifty a second less what the bar costs; the slow first step is not in it
    assert row.speed == pytest.approx(8 * row.rate)
    assert (row.allocated, row.reserved) == (1.0, 2.0)
    assert 0.5 < row.first_step < row.whole


def test_a_peer_that_fails_or_is_not_here_is_a_row(work):
    case = parse_case("kohya:sd15:8")
    failed = train(case, work, 30, Checkouts(kohya=trainer(work / "kohya", code=3)))
    assert failed.code == 3
    assert "PEAK-BYTES" in failed.note  # its last words
    missing = train(case, work, 30, Checkouts())
    assert missing.code == 2
    assert "train_network.py" in missing.note


def test_a_bar_torn_in_the_middle_of_a_number_is_read():
    bar = Bar(100)
    for now, piece in enumerate(
        [b"steps: 41%| 41/1", b"00 [00:01<\r", b"steps 42/100 [", b"9/16 [", b" 42/100 [", b"99/100 ["]
    ):
        bar(float(now), piece)
    assert bar.times == {41: 1.0, 42: 2.0, 99: 5.0}
    assert bar.rate() == (pytest.approx(58 / 4), 58)


def test_the_example_gets_our_targets_or_says_why_not(work):
    examples = work / "examples"
    examples.mkdir()
    script = examples / "train_text_to_image_lora.py"
    script.write_text(f"config = dict({ATTENTION})\n")
    _, copy, *flags = diffusers_best(parse_case("diffusers-best:sd15:8"), work, Checkouts(diffusers=examples))
    found = {}
    exec(compile(Path(copy).read_text(), copy, "exec"), found)
    assert found["config"]["target_modules"] == list(TARGETS)
    assert "--train_batch_size=8" in flags
    script.write_text("config = dict(target_modules=[])\n")
    with pytest.raises(ValueError, match="targets"):
        diffusers_best(parse_case("diffusers-best:sd15:8"), work, Checkouts(diffusers=examples))


def test_a_program_over_its_limit_is_ended_with_what_it_started(tmp_path):
    sleeper = "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code, log = f"import subprocess, sys; print('begun', flush=True); {sleeper}", tmp_path / "log"
    ended, began, end = watch([sys.executable, "-c", code], lambda *_: None, log, 2.0)
    assert ended == -9
    assert end - began < 10
    assert tail(log) == "begun"
