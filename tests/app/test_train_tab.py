"""The Train tab's button."""

import importlib.util

import gradio as gr
import pytest

from app.tabs.train import filling
from app.tabs.train.filling import RATES
from app.tabs.train.starting import submit
from app.views import pulse
from app.views.page import Page
from app.views.presets import OWN, about_html
from tests.tiny import make_pictures
from trainer.contract.errors import UserError
from trainer.contract.presets import load_preset

ASKED = {
    "preset": "style", "base": "demo", "trigger": "", "length": 10, "unit": "steps", "pace": "own", "name": "",
}  # fmt: skip


def test_what_cannot_be_trained_is_said_and_no_run_is_made(tmp_path):
    folder = make_pictures(tmp_path / "datasets" / "mine", 1)
    with gr.Blocks() as blocks, gr.Tabs() as tabs, gr.Tab("Train") as tab:
        page = Page(tmp_path, blocks, tabs, *(gr.Textbox() for _ in range(5)), pulse.build(), tab)
    values = {**ASKED, "dataset": str(folder), "dataset.tag_dropout": 0.1}
    names = {name: name for name in values}
    tags = {"dataset.tag_dropout": names.pop("dataset.tag_dropout")}
    _, problem, _ = submit(page, names, tags)(values)
    assert "made of tags" in problem.value and problem.visible
    assert not (tmp_path / "runs").exists()


def test_the_rates_follow_the_optimiser_that_is_chosen():
    assert filling.rates("demo", "style", "good", "adamw") == ["0.001", "auto", "auto"]
    assert filling.rates("demo", "style", "draft", "adamw") == ["0.002", "auto", "auto"]
    assert filling.rates("demo", "style", "good", "prodigy") == ["auto", "auto", "auto"]
    assert filling.rates("demo", "style", "good", "lion") == ["0.0003", "auto", "auto"]


def test_a_package_that_is_missing_is_said_before_anything_waits(tmp_path, monkeypatch):
    folder = make_pictures(tmp_path / "datasets" / "mine", 2)
    with gr.Blocks() as blocks, gr.Tabs() as tabs, gr.Tab("Train") as tab:
        page = Page(tmp_path, blocks, tabs, *(gr.Textbox() for _ in range(5)), pulse.build(), tab)
    values = {**ASKED, "dataset": str(folder), "optimizer.name": "came", "optimizer.arguments": "clip_threshold = 2.0"}
    names = {name: name for name in values}
    more = {name: names.pop(name) for name in ("optimizer.name", "optimizer.arguments")}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pytorch_optimizer" else find(name))
    _, problem, _ = submit(page, names, more)(values)
    assert "python -m pip install pytorch-optimizer" in problem.value and problem.visible
    assert not (tmp_path / "runs").exists()


def test_settings_of_another_trainer_fill_the_form_and_what_is_left_is_listed(tmp_path):
    path = tmp_path / "kohya.toml"
    path.write_text("network_dim = 4\nmax_train_epochs = 3\nnetwork_module = '<b>'\n")
    fields = ["adapter.rank", "optimizer.learning_rate"]
    said, length, unit, rank, rate = filling.like(path, filling.preset_config("demo", "style"), fields)
    assert (length, unit, rank) == (3, "epochs", 4) and rate == "0.001", "the rest stays as the preset has it"
    assert "4 settings taken over" in said and "&lt;b&gt;: there is no such thing here" in said


def test_a_length_fills_number_and_unit_and_leaves_what_is_not_its_own_alone():
    fields = ["adapter.rank", *RATES]
    found = [filling.paced(("demo", "style", pace, "adamw"), fields) for pace in ("draft", "good", "best")]
    numbers = [number for number, *_ in found]
    assert numbers == sorted(set(numbers)) and {unit for _, unit, *_ in found} == {"views"}
    assert all(rank == gr.skip() for _, _, rank, *_ in found)
    assert [rate for *_, rate, _, _ in found] == ["0.002", "0.001", "0.001"]
    drafted = filling.paced(("demo", "style", "draft", "prodigy"), fields)
    assert drafted[2:] == (gr.skip(),) * 4, "another optimiser's rate"
    left_out = [
        filling.paced(("demo", "style", pace, "adamw"), ["adapter.rank_dropout"])[2] for pace in ("draft", "good")
    ]
    assert left_out == [0.0, 0.4], "a draft leaves nothing out, and the way back does"
    assert filling.paced(("demo", "style", OWN, "adamw"), fields) == (gr.skip(),) * 6
    assert filling.shown(filling.preset_config("demo", "style", OWN), fields) == filling.shown(
        filling.preset_config("demo", "style", "good"), fields
    )


def test_a_rate_that_is_found_is_put_into_the_form_and_taken_back():
    assert filling.auto_rate("demo", "style", "draft", True)[:2] == ["prodigy", "1.0"]
    assert filling.auto_rate("demo", "style", "draft", False)[:2] == ["adamw", "0.002"]


def test_a_rate_cannot_be_found_without_the_package(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prodigyopt" else find(name))
    with pytest.raises(UserError) as caught:
        filling.auto_rate("demo", "style", "good", True)
    assert "prodigyopt" in caught.value.problem and caught.value.fix == "Run: python -m pip install prodigyopt"


def test_a_preset_says_what_it_takes():
    said = about_html(load_preset("style", "sdxl"))
    for word in ("(draft)", "(good)", "(best)", "NVIDIA H200", "GiB", "ai-toolkit", "Where these numbers come from"):
        assert word in said
