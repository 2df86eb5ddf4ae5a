"""What is said at the fields of the form, and how long a run of it would be."""

import re

import pytest

from app import form
from app.tabs.train.telling import _noted
from app.views.lengths import planned, planned_or_none
from app.views.notes import Note, notes, notes_of, style
from app.views.plan import plan_html
from tests.tiny import make_pictures
from trainer.assemble import assemble
from trainer.console import Reporter
from trainer.contract.compose import compose, parse_assignments
from trainer.contract.errors import UserError
from trainer.contract.length import Length
from trainer.contract.presets import load_preset
from trainer.contract.rules import ONLY_WITH
from trainer.contract.rundir import create_run

BASE = {"dataset": {"path": "pictures"}, "model": {"base": "someone/sd"}}


def said(*assignments: str, steps: int | None = 1500) -> dict[str, Note]:
    config = compose([BASE, parse_assignments(assignments)], "reset")
    return {note.setting: note for note in notes(config, steps)}


def test_a_field_without_effect_says_when_it_counts():
    before, after = said(), said("objective.loss=huber")
    assert before["objective.huber_c"].kind == "idle"
    assert "objective.loss is huber or smooth_l1" in before["objective.huber_c"].text
    assert "objective.huber_c" not in after and "objective.snr_gamma" in after
    assert {note.setting for note in before.values()} <= {rule.setting for rule in ONLY_WITH}


def test_what_is_hardly_meant_is_said_at_its_field():
    assert said("optimizer.learning_rate=1e-2")["optimizer.learning_rate"].kind == "remark"
    assert said(steps=10)["training.steps"].kind == "remark"


def test_a_mistake_is_said_at_every_field_it_names():
    assignments = ["objective.noise_offset=0.1", "objective.pyramid_iterations=6", "adapter.rank=0"]
    with pytest.raises(UserError) as caught:
        compose([BASE, parse_assignments(assignments[:2])], "reset")
    found = notes_of(caught.value)
    assert {note.setting for note in found} == {"objective.noise_offset", "objective.pyramid_iterations"}
    assert all(note.kind == "wrong" and "Set one of them to 0" in note.text for note in found)
    with pytest.raises(UserError) as caught:
        compose([BASE, parse_assignments(assignments[2:])], "reset")
    (note,) = notes_of(caught.value)
    assert note.setting == "adapter.rank" and "greater than or equal to 1" in note.text


def test_notes_are_rules_for_their_fields_and_nothing_typed_gets_out_of_them():
    typed = Note("adapter.rank", "wrong", 'given: "}</style><script>alert(1)</script>\\')
    html = style([("set-adapter-rank", typed)])
    assert html.startswith("<style>#set-adapter-rank::after{content:") and html.count("<") == 2
    inside = re.search(r'content:"([^"]*)"', html)[1]
    plain = re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), inside)
    assert plain == typed.text


def test_questions_of_their_own_get_the_notes_of_their_settings():
    html = _noted([Note("training.steps", "remark", "one"), Note("training.views", "remark", "two")])
    assert html.count("::after") == 1 and "#train-length::after" in html and "one two" in html
    assert form.field("adapter.rank").element in _noted([Note("adapter.rank", "idle", "x")])


def test_the_length_that_the_form_tells_is_the_one_that_the_trainer_counts(tmp_path):
    folder = make_pictures(tmp_path / "set", 3, size=(96, 64))
    make_pictures(folder / "tall", 2, size=(64, 160))
    prior = make_pictures(tmp_path / "prior", 4)
    concepts = [{"path": str(prior), "regularisation": True, "class_word": "box"}]
    layer = {
        "model": {"base": "demo", "device": "cpu"},
        "dataset": {"path": str(folder), "concepts": concepts, "resolution": [64, 128]},
        "adapter": {"rank": 1},
        "training": {"views": 7, "batch_size": 3, "accumulation": 2},
        "sampling": {"every": "never"},
    }
    config = compose([layer])
    run = assemble(create_run(tmp_path, "run", config), Reporter(None))
    found = planned(config)
    assert found and found.length == run.chores._length() and found.length.steps == run.total
    said = plan_html(tmp_path, config, load_preset("style", "demo"), found)
    assert found.length.words() in said and "rate" in said


def test_a_set_that_is_not_there_has_no_length(tmp_path):
    assert planned_or_none(compose([{"dataset": {"path": str(tmp_path / "none")}}])) is None
    folder = make_pictures(tmp_path / "set", 4)
    config = compose([{"model": {"base": "demo"}, "dataset": {"path": str(folder)}, "training": {"steps": 10}}])
    assert planned(config).length == Length(10, 10.0, 10.0)
