"""Does the demo learn? Trains both sample sets with the command line, then measures: `pytest -m quality -n 0`.

It takes about five minutes and prints its figures. What the measures are worth is tried in test_measures.py, and here
again on real pictures.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from presets.demo.make.subject import TRIGGER
from tests.quality.cheats import CHEATS, Cheat, fading
from tests.quality.classify import Classifier
from tests.quality.draws import read
from tests.quality.gallery import Gallery
from tests.quality.judge import WITHOUT_TRIGGER, Evidence, SubjectFigures, judge_style
from tests.quality.prompts import ALIKE, CALLED, THINGS, UNCALLED
from tests.quality.subject import detector, drawings, flat, in_pieces, share
from trainer.contract.home import demo_folder

pytestmark = pytest.mark.quality
ROOT = Path(__file__).parents[2]


def demo(home: Path, *options: str) -> Path:
    """Run the demo as a newcomer does; return its adapter file."""
    command = [sys.executable, "-P", "-m", "app", "demo", "--json", "--data-dir", str(home), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"demo {' '.join(options)}: {said['seconds']} s, sweep in {said['sweep']}\n")
    return Path(said["adapter"])


def show(capsys: pytest.CaptureFixture, figures: object) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return Gallery()


@pytest.fixture(scope="module")
def present(gallery) -> Classifier:
    """Says whether the subject is in a picture."""
    return detector(gallery.shown)


@pytest.fixture(scope="module")
def style(gallery, tmp_path_factory) -> Evidence:
    """The demo's style at every strength."""
    return gallery.evidence(demo(tmp_path_factory.mktemp("style")))


def test_the_style_is_learnt(style, capsys):
    figures = judge_style(style)
    show(capsys, figures)
    assert not figures.shortfalls()


@pytest.mark.parametrize(("cheat", "found"), CHEATS)
def test_nothing_less_would_pass(style, cheat: Cheat, found: set[str]):
    figures = judge_style(replace(style, sweep=fading(style.sweep[0.0], cheat(style))))
    assert found <= set(figures.shortfalls()), str(figures)


def test_the_detector_knows_the_subject_and_nothing_else(gallery, present):
    """Before it may say anything of what was learnt. None of these pictures was used to train it."""
    seen = drawings(24, seed=2)
    assert share(present, seen) >= 0.9
    assert share(present, read(demo_folder() / "subject")[0]) >= 0.9
    for absent in (in_pieces(seen, seed=2), flat(seen), gallery.studio.draw(ALIKE, range(len(ALIKE)))):
        assert share(present, absent) <= WITHOUT_TRIGGER


def test_the_subject_comes_when_it_is_called(gallery, present, tmp_path, capsys):
    studio, classifier = gallery.studio, gallery.classifier
    captions = read(demo_folder() / "subject")[1]
    called = [prompt.format(TRIGGER) for prompt in CALLED]
    assert not set(captions) & set(called), "no prompt was trained on"
    adapter = demo(tmp_path, "--subject")
    labels = np.array([THINGS.index(prompt) for prompt in UNCALLED])
    seeds = range(2000, 2000 + len(CALLED))
    others = [studio.draw(UNCALLED, seeds, adapter, strength) for strength in (0.0, 1.0)]
    figures = SubjectFigures(
        called=share(present, studio.draw(called, seeds, adapter)),
        base=share(present, studio.draw(called, seeds, adapter, 0.0)),
        uncalled=share(present, others[1]),
        named=(classifier.accuracy(others[0], labels), classifier.accuracy(others[1], labels)),
    )
    show(capsys, figures)
    assert not figures.shortfalls()
