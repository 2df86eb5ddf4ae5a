"""Alphas that only a config tells, by the paths of any release of transformers; configs that were made to do harm."""

import json
import time
from pathlib import Path

import pytest

from trainer.formats.peft_config import METADATA, PeftConfig, peft_config

QUERY = "encoder.layers.3.self_attn.q_proj"


@pytest.mark.parametrize("theirs", [QUERY, f"text_model.{QUERY}", rf"^text_model\.{QUERY}", "self_attn.q_proj"])
@pytest.mark.parametrize("ours", [QUERY, f"text_model.{QUERY}"])
def test_a_pattern_finds_its_layer_whether_or_not_a_release_has_text_model_in_its_path(theirs, ours):
    values = {"text_encoder.lora_alpha": 8, "text_encoder.alpha_pattern": {theirs: 3}, "unet.lora_alpha": 5}
    config = PeftConfig(values)
    assert config.alpha("text_encoder", ours, 4) == 3
    assert config.alpha("text_encoder", ours.replace("q_proj", "v_proj"), 4) == 8
    assert config.alpha("unet", ours, 4) == 5


def test_a_hostile_config_costs_no_time_and_numbers_of_any_length_are_none():
    patterns = {f"layer{number}": number for number in range(200_000)}
    told = {"lora_alpha": 10**400, "r": 10**400, "alpha_pattern": patterns}
    config = peft_config(Path("a.safetensors"), {METADATA: json.dumps(told)})
    began = time.process_time()
    found = [config.alpha("unet", f"{'a.' * 5000}layer{number}", 4) for number in range(2000)]
    assert found == [float(number) for number in range(2000)]
    assert config.alpha("unet", "another", 4) is None and config.scale("unet", "layer1") is None
    assert time.process_time() - began < 1
