"""Settings that have no effect and settings that contradict each other, for every row of the rules."""

import pytest

from app import form
from tests.app.test_form import another
from trainer.contract.compose import compose, parse_assignments, setting_names
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rules import CLASHES, ONLY_WITH, Need, OnlyWith, idle, shown

BASE = {"dataset": {"path": "pictures"}}
ALWAYS = {  # or as the pictures and the base are, which `gather` and the families look at
    "model": "base revision vae prediction zero_terminal_snr clip_skip dtype device",
    "dataset": "path resolution max_upscale crop background trigger class_word caption_prefix caption_suffix "
    "caption_chunks shuffle tag_dropout caption_dropout flip masks regularisation_weight",
    "adapter": "method rank ranks module_dropout targets text_encoder start",
    "optimizer": "name learning_rate clip_norm arguments",
    "schedule": "name warmup",
    "objective": "weighting loss noise_offset pyramid_iterations input_perturbation timesteps min_timestep "
    "max_timestep prior",
    "training": "steps epochs views batch_size accumulation seed save_every ema threads",
    "engine": "graph layout kernels compile checkpointing base",
    "sampling": "prompts strengths every",
    "validation": "share",
    "export": "dtype captions plain each_save preferred_weight author license description",
    "tracking": "tensorboard wandb",
}


def failing(need: Need) -> object:
    """A value that a need does not accept: the setting's default, or another one."""
    item = form.field(need.setting)
    words = [*item.words, "torch.optim.NAdam"] if need.setting == "optimizer.name" else item.words
    words = [*words, *(value for value in (item.default, item.bounds[0], True, False) if value is not None)]
    return next(value for value in words if not need.holds(value))


def written(name: str, value: object) -> str:
    return f"{name}={shown(value)}"


@pytest.fixture(params=ONLY_WITH, ids=lambda rule: f"{rule.setting}-{rule.needs[0].setting}")
def rule(request) -> OnlyWith:
    return request.param


def met(rule: OnlyWith) -> list[str]:
    """What makes every rule of a setting hold."""
    return [written(r.needs[0].setting, r.needs[0].example) for r in ONLY_WITH if r.setting == rule.setting]


def unmet(rule: OnlyWith) -> list[str]:
    return [written(need.setting, failing(need)) for need in rule.needs]


def value_of(rule: OnlyWith) -> str:
    item = form.field(rule.setting)
    return written(rule.setting, another(item, item.default))


def test_every_setting_counts_always_or_has_a_rule():
    ruled = {rule.setting for rule in ONLY_WITH}
    always = {f"{section}.{key}" for section, keys in ALWAYS.items() for key in keys.split()}
    assert not ruled & always
    missing = set(setting_names()) - ruled - always
    assert not missing, f"a rule in trainer/contract/rules.py, or a word here: {missing}"
    assert ruled | always == set(setting_names())


def test_a_setting_without_effect_is_refused_with_what_to_do(rule):
    with pytest.raises(UserError) as caught:
        compose([BASE, parse_assignments([*unmet(rule), value_of(rule)])])
    said = str(caught.value)
    assert said.startswith(f"{rule.setting}: has no effect with ")
    for need in rule.needs:
        assert f"{need.setting} is {need.words}" in said
    assert f"{rule.needs[0].setting}={shown(rule.needs[0].example)}" in said


def test_the_same_setting_is_taken_where_it_counts(rule):
    assignments = [*met(rule), value_of(rule)]
    config = compose([BASE, parse_assignments(assignments)])
    assert rule.setting not in idle(config)
    assert written(rule.setting, config.value(rule.setting)) == value_of(rule)


@pytest.mark.parametrize("own", [{"shuffle": "on"}, {"shuffle": "auto"}, {"tag_dropout": 0.1}])
def test_what_a_further_set_says_itself_counts_too(own):
    layer = {"dataset": {"path": "pictures", "shuffle": "off", "keep_tokens": 1, "concepts": [{"path": "b", **own}]}}
    assert compose([layer]).dataset.keep_tokens == 1
    layer["dataset"]["concepts"] = [{"path": "b", "flip": True}]
    with pytest.raises(UserError, match="keep_tokens: has no effect"):
        compose([layer])


def test_a_later_choice_drops_what_a_preset_says_for_another_one(rule):
    preset = parse_assignments([*met(rule), value_of(rule)])
    config = compose([preset, BASE, parse_assignments(unmet(rule))])
    assert config.value(rule.setting) == form.field(rule.setting).default


def test_a_page_that_shows_it_at_the_field_goes_on_with_the_default(rule):
    config = compose([BASE, parse_assignments([*unmet(rule), value_of(rule)])], "reset")
    assert config.value(rule.setting) == form.field(rule.setting).default and rule.setting in idle(config)


CLASHING = {
    "optimizer.lora_plus_ratio": ["optimizer.lora_plus_ratio=16", "optimizer.name=prodigy"],
    "optimizer.text_encoder_learning_rate": ["optimizer.text_encoder_learning_rate=0.5", "optimizer.name=prodigy"],
    "adapter.text_encoder_until": ["adapter.text_encoder_until=50%", "objective.prior=base"],
    "adapter.max_norm": ["adapter.max_norm=1", "optimizer.name=schedulefree"],
    "training.ema": ["training.ema=0.99", "optimizer.name=schedulefree"],
    "objective.noise_offset": ["objective.noise_offset=0.1", "objective.pyramid_iterations=6"],
    "objective.min_timestep": ["objective.min_timestep=0.7", "objective.max_timestep=600"],
    "model.zero_terminal_snr": ["model.zero_terminal_snr=on", "model.prediction=epsilon"],
    "engine.base": ["engine.base=streamed", "engine.checkpointing=none"],
    "engine.compile": ["engine.compile=true", "engine.base=streamed"],
    "engine.graph": ["engine.graph=on", "model.device=cpu"],
    "engine.kernels": ["engine.kernels=triton", "model.device=cpu"],
}


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.settings[0])
@pytest.mark.parametrize("mode", ["refuse", "reset"])
def test_a_contradiction_is_refused_with_what_to_do(clash, mode):
    both = CLASHING[clash.settings[0]]
    base = {**BASE, "adapter": {"text_encoder": "text_encoder" in clash.settings[0]}}
    with pytest.raises(UserError) as caught:
        compose([base, parse_assignments(both)], mode)
    assert f"{clash.settings[0]}: {clash.problem}. {clash.fix}" in str(caught.value)
    for one in both:
        compose([base, parse_assignments([one])])


def test_a_file_with_every_value_can_be_given_again_as_a_preset():
    config = compose([BASE, {"objective": {"weighting": "debiased"}, "adapter": {"text_encoder": True}}])
    assert compose([config.model_dump(exclude_none=True), BASE]) == config


def test_a_run_folder_from_before_a_rule_still_opens():
    old = {**BASE, "training": {"steps": 3}, "optimizer": {"text_encoder_learning_rate": 5e-5}}
    assert compose([old], "keep") == RunConfig.model_validate(old)
