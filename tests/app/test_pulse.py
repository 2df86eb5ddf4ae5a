"""The word that tells an open page that something happened."""

from app.jobs import queue
from app.owners import Viewer, seen_by
from app.views.pulse import word
from tests.tiny import make_pictures
from trainer.contract.compose import compose
from trainer.contract.rundir import State, create_run


def config(home):
    return compose([{"dataset": {"path": str(make_pictures(home / "datasets" / "mine", 1))}}])


def test_a_look_changes_nothing(tmp_path):
    queue.submit(tmp_path, "one", config(tmp_path))
    first = word(tmp_path)
    queue.entries(tmp_path)
    assert word(tmp_path) == first


def test_what_the_page_shows_changes_it(tmp_path):
    words = [word(tmp_path)]
    run = queue.submit(tmp_path, "one", config(tmp_path))
    words.append(word(tmp_path))
    run.write_status(State.TRAINING, step=1, total=9)
    words.append(word(tmp_path))
    with run.log.open("a") as log:
        log.write("a line\n")
    words.append(word(tmp_path))
    queue.submit(tmp_path, "two", run.config())
    words.append(word(tmp_path))
    queue.move(tmp_path, "two", True)
    words.append(word(tmp_path))
    queue.remove(tmp_path, "two")
    words.append(word(tmp_path))
    assert len(set(words)) == len(words)


def test_what_others_do_is_not_told(tmp_path):
    with seen_by(Viewer("ann", False, tmp_path)):
        before = word(tmp_path)
    create_run(tmp_path, "of-somebody", config(tmp_path))
    with seen_by(Viewer("ann", False, tmp_path)):
        assert word(tmp_path) == before
