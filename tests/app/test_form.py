"""The form is the schema: every field appears, shows its value, and comes back as it was."""

import gradio as gr
import pytest

from app import form
from trainer.contract.compose import compose, section_fields, setting_names
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.presets import load_preset, presets

UNLIKE = {  # another value than the default, for every field that has no bounds or words to take one from
    "model.base": "someone/model", "dataset.path": "elsewhere", "dataset.trigger": "sks", "dataset.resolution": 768,
    "dataset.background": "#102030", "dataset.class_word": "dog", "dataset.caption_prefix": "photo of",
    "dataset.caption_suffix": "outside",
    "adapter.alpha": 8.5, "adapter.text_encoder_rank": 4, "adapter.text_encoder_alpha": 2.5, "adapter.conv_rank": 8,
    "adapter.conv_alpha": 1.5, "adapter.ranks": {"down_blocks.*": 8, "mid_block.*": 0},
    "adapter.factor": 4, "adapter.start": "mine.safetensors", "adapter.alphas": {"*.to_q": 0.5},
    "adapter.text_encoder_until": "40%",
    "optimizer.text_encoder_learning_rate": 5e-5, "optimizer.learning_rate": 2e-4,
    "optimizer.text_encoder_2_learning_rate": 3e-5, "optimizer.arguments": {"d_coef": 2, "betas": (0.9, 1), "x": True},
    "training.threads": 2, "training.save_every": "125", "sampling.every": "3ep",
    "sampling.prompts": ("a cat", "a dog, red"), "sampling.negative": "blurry", "sampling.strengths": (0.0, 1.0),
    "validation.share": 0.25, "validation.every": "40",
}  # fmt: skip


def config_with(name: str, value: object) -> RunConfig:
    section, _, key = name.partition(".")
    return compose([{"dataset": {"path": "here"}}, {section: {key: value}}], "keep")  # whether it counts or not


def another(item: form.Field, default: object) -> object:
    if item.name in UNLIKE:
        return UNLIKE[item.name]
    if bool in item.kinds:
        return not default
    if item.words:
        return next((word for word in item.words if word != default), default)
    if float in item.kinds:
        return item.bounds[0] + 0.5 if item.bounds[0] is not None else 0.25
    number = (default if isinstance(default, int) else 0) + 3
    return number if item.bounds[1] is None or number <= item.bounds[1] else int(item.bounds[0])


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_survives_the_page(name: str) -> None:
    item = form.field(name)
    default = form.value_of(config_with("dataset.path", "here"), name)
    value = another(item, default)
    before = config_with(name, value)
    shown = form.to_page(item, form.value_of(before, name))
    with gr.Blocks():
        component = form.component(item, form.value_of(before, name))
    assert component.value == shown or (isinstance(component, gr.Dropdown) and str(component.value) == shown)
    back = form.from_page(item, component.preprocess(component.postprocess(shown)))
    assert form.value_of(config_with(name, back), name) == form.value_of(before, name)


def test_several_resolutions_survive_the_page() -> None:
    item = form.field("dataset.resolution")
    before = config_with("dataset.resolution", [768, 512])
    shown = form.to_page(item, form.value_of(before, "dataset.resolution"))
    assert shown == "512, 768"
    assert config_with("dataset.resolution", form.from_page(item, shown)) == before


def test_patterns_need_no_quotes_on_the_page() -> None:
    item = form.field("adapter.ranks")
    typed = 'down_blocks.*.to_q = 8\n"mid_block.*" = 0'
    assert form.from_page(item, typed) == {"down_blocks.*.to_q": 8, "mid_block.*": 0}
    with pytest.raises(UserError, match=r"adapter\.ranks: .*write name = value"):
        config_with("adapter.ranks", form.from_page(item, "all of them"))


def test_a_whole_config_survives_the_page() -> None:
    for shelf in ("demo", "sd", "sdxl"):
        for preset in presets(shelf):
            before = compose([*load_preset(preset, shelf).layers(), {"dataset": {"path": "here"}}])
            page = {name: form.to_page(form.field(name), form.value_of(before, name)) for name in setting_names()}
            assert form.read(page, {}) == before


def test_the_advanced_part_and_the_essential_part_are_the_schema() -> None:
    advanced = [item.name for fields in form.advanced().values() for item in fields]
    assert sorted([*advanced, *form.ESSENTIAL]) == sorted(setting_names())
    assert set(form.TITLES) >= set(form.advanced())


def test_every_component_has_a_line_of_help_and_its_own_id() -> None:
    items = [form.field(name) for name in setting_names()]
    assert all(item.help for item in items)
    assert len({item.element for item in items}) == len(items)


def test_bounds_come_from_the_schema() -> None:
    with gr.Blocks():
        rank = form.component(form.field("adapter.rank"), 16)
    assert isinstance(rank, gr.Number) and (rank.minimum, rank.maximum) == (1, 512)
    assert rank.info == f"{section_fields('adapter')['rank'].description} 1 to 512. Default: 16."


def test_what_is_wrong_is_said_once_and_all_together() -> None:
    with pytest.raises(UserError) as caught:
        form.read(
            {"dataset.path": "here", "adapter.rank": 0, "adapter.alpha": "much", "optimizer.learning_rate": -1}, {}
        )
    for name in ("adapter.rank", "adapter.alpha", "optimizer.learning_rate"):
        assert name in str(caught.value)


def test_what_differs_from_the_preset() -> None:
    preset = compose([{"dataset": {"path": "-"}}])
    config = compose([{"dataset": {"path": "here"}, "adapter": {"rank": 4}, "training": {"steps": 9}}])
    assert form.changed(config, preset) == {
        "adapter.rank": (16, 4),
        "training.steps": (None, 9),
        "training.views": (60, None),
    }
