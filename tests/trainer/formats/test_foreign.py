"""Settings of other trainers: taken where there is a counterpart, listed with a reason where there is none."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.trainer.formats.test_metadata import FACTS
from trainer.contract.compose import compose, setting_names
from trainer.contract.errors import UserError
from trainer.formats.foreign import LEFT, ROWS, read_foreign, translate
from trainer.formats.metadata import adapter_metadata

KOHYA = """
[model_arguments]
pretrained_model_name_or_path = "/models/anything.safetensors"
clip_skip = 2
v2 = false

[additional_network_arguments]
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
unet_lr = 5e-4
text_encoder_lr = 1e-4

[optimizer_arguments]
learning_rate = 1e-3
optimizer_type = "AdamW"
optimizer_args = ["weight_decay=0.1", "betas=[0.9,0.99]"]
lr_scheduler = "cosine"
lr_warmup_steps = 50

[training_arguments]
max_train_epochs = 10
max_train_steps = 1600
train_batch_size = 2
seed = 42
min_snr_gamma = 5.0
mixed_precision = "fp16"
save_every_n_epochs = 2
xformers = true
cache_latents = true
huber_c = 0.2

[dataset_arguments]
resolution = "512,768"
shuffle_caption = true
keep_tokens = 1
flip_aug = false
"""


def test_a_kohya_toml(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(KOHYA)
    found = read_foreign(path)
    settings = {setting: value for _, setting, value in found.taken}
    assert settings == {
        "model.clip_skip": 2,
        "adapter.rank": 32,
        "adapter.alpha": 16,
        "adapter.text_encoder": True,
        "optimizer.learning_rate": 5e-4,
        "optimizer.text_encoder_learning_rate": 1e-4,
        "optimizer.name": "adamw",
        "schedule.name": "cosine",
        "schedule.warmup": 50,
        "training.epochs": 10,
        "training.batch_size": 2,
        "training.seed": 42,
        "training.save_every": "2ep",
        "objective.snr_gamma": 5,
        "dataset.resolution": 627,
        "dataset.shuffle": "on",
        "dataset.keep_tokens": 1,
        "dataset.flip": False,
    }
    left = {name: reason for name, _, reason in found.left}
    assert left.keys() == {
        "pretrained_model_name_or_path", "network_module", "optimizer_args", "max_train_steps", "mixed_precision",
        "xformers", "cache_latents", "huber_c",
    }  # fmt: skip
    assert "epochs" in left["max_train_steps"] and "objective.huber_c counts only where" in left["huber_c"]
    config = compose([{"training": {"views": 5}}, found.layer, {"dataset": {"path": "x"}}])
    assert config.objective.weighting == "min_snr" and config.training.epochs == 10 and config.training.views is None


def test_what_kohya_ss_saves_as_json_with_empty_fields_and_text_for_numbers(tmp_path):
    path = tmp_path / "preset.json"
    values = {"network_dim": 8, "network_alpha": 0, "learning_rate": "0.0001", "unet_lr": 0, "text_encoder_lr": 0,
              "optimizer": "Adafactor2000", "lr_scheduler": "cosine_with_min_lr", "epoch": "4", "max_resolution": "1,1",
              "noise_offset": "", "lr_warmup": "", "seed": "", "sdxl": True, "network_dropout": 3}  # fmt: skip
    path.write_text(json.dumps(values))
    found = read_foreign(path)
    assert {setting: value for _, setting, value in found.taken} == {
        "adapter.rank": 8, "adapter.alpha": "auto", "adapter.text_encoder": False, "optimizer.learning_rate": 1e-4,
        "training.epochs": 4,
    }  # fmt: skip
    left = {name: reason for name, _, reason in found.left}
    assert left.keys() == {"optimizer_type", "lr_scheduler", "max_resolution", "sdxl", "network_dropout"}
    assert left["optimizer_type"] == "there is no such thing here" and "adapter.dropout" in left["network_dropout"]
    compose([found.layer, {"dataset": {"path": "x"}}])


def test_the_metadata_of_an_adapter_file_of_ours(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, adapter_metadata(FACTS))
    settings = {setting: value for _, setting, value in read_foreign(path).taken}
    assert settings["adapter.rank"] == FACTS.rank and settings["adapter.alpha"] == FACTS.alpha
    assert settings["optimizer.learning_rate"] == FACTS.learning_rate
    assert settings["training.batch_size"] == FACTS.batch_size and settings["training.seed"] == FACTS.seed


def test_every_row_names_a_setting_and_no_name_is_in_both_tables():
    assert {setting for setting, _ in ROWS.values()} <= set(setting_names())
    assert not ROWS.keys() & LEFT.keys()


@pytest.mark.parametrize("content", ["", "[1, 2]", "not = [toml", "x = 1", "\x00"])
@pytest.mark.parametrize("suffix", [".toml", ".json", ".safetensors"])
def test_other_files_are_refused_in_words(tmp_path, content, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_text(content)
    with pytest.raises(UserError):
        read_foreign(path)
    with pytest.raises(UserError):
        read_foreign(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("value", [None, [], {}, "nan", "inf", -1, 1e400, "x" * 1000, True, [[]]])
def test_no_value_breaks_it(value):
    found = translate(dict.fromkeys([*ROWS, "strange"], value))
    compose([found.layer, {"dataset": {"path": "x"}}], "keep")
