"""The Train tab's button."""

import importlib.util

import gradio as gr

from app.tabs.train import _like, _preset, _rates, _submit
from app.views.page import Page
from tests.tiny import make_pictures


def test_what_cannot_be_trained_is_said_and_no_run_is_made(tmp_path):
    folder = make_pictures(tmp_path / "datasets" / "mine", 1)
    with gr.Blocks() as blocks, gr.Tabs() as tabs, gr.Tab("Train") as tab:
        page = Page(tmp_path, blocks, tabs, gr.Textbox(), gr.Textbox(), gr.Textbox(), gr.Textbox(), tab)
    asked = {"dataset": str(folder), "preset": "style", "base": "demo", "trigger": "", "length": 10, "unit": "steps"}
    values = {**asked, "name": "", "dataset.tag_dropout": 0.1}
    names = {name: name for name in values}
    tags = {"dataset.tag_dropout": names.pop("dataset.tag_dropout")}
    _, problem = _submit(page, names, tags)(values)
    assert "made of tags" in problem.value and problem.visible
    assert not (tmp_path / "runs").exists()


def test_the_rates_follow_the_optimiser_that_is_chosen():
    assert _rates("demo", "style", "adamw") == ["0.002", "auto", "auto"]
    assert _rates("demo", "style", "prodigy") == ["auto", "auto", "auto"]
    assert _rates("demo", "style", "lion") == ["0.0006", "auto", "auto"]


def test_a_package_that_is_missing_is_said_before_anything_waits(tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "datasets" / "mine", 2)
    with gr.Blocks() as blocks, gr.Tabs() as tabs, gr.Tab("Train") as tab:
        page = Page(tmp_path, blocks, tabs, gr.Textbox(), gr.Textbox(), gr.Textbox(), gr.Textbox(), tab)
    asked = {"dataset": str(folder), "preset": "style", "base": "demo", "trigger": "", "length": 10, "unit": "steps"}
    values = {**asked, "name": "", "optimizer.name": "came", "optimizer.arguments": "clip_threshold = 2.0"}
    names = {name: name for name in values}
    more = {name: names.pop(name) for name in ("optimizer.name", "optimizer.arguments")}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pytorch_optimizer" else find(name))
    _, problem = _submit(page, names, more)(values)
    assert "python -m pip install pytorch-optimizer" in problem.value and problem.visible
    assert not (tmp_path / "runs").exists()


def test_settings_of_another_trainer_fill_the_form_and_what_is_left_is_listed(tmp_path):
    path = tmp_path / "kohya.toml"
    path.write_text("network_dim = 4\nmax_train_epochs = 3\nnetwork_module = '<b>'\n")
    fields = ["adapter.rank", "optimizer.learning_rate"]
    said, length, unit, rank, rate = _like(path, _preset("demo", "style"), fields)
    assert (length, unit, rank) == (3, "epochs", 4) and rate == "0.002", "the rest stays as the preset has it"
    assert "3 settings taken over" in said and "&lt;b&gt;: there is no such thing here" in said
