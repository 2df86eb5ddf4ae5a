"""Settings of other trainers: taken where there is a counterpart, listed with a reason where there is none."""

import inspect
import json
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.full_size import UNETS
from tests.trainer.formats.test_metadata import FACTS
from trainer.contract.catalog import optimizer_row, resolve
from trainer.contract.compose import compose, setting_names, to_toml
from trainer.contract.errors import UserError
from trainer.families.sd import STORED
from trainer.formats.foreign import read_foreign, translate
from trainer.formats.metadata import adapter_metadata
from trainer.formats.sd_scripts import ALIASES, ARGUMENTS, GOES_WITH, LEFT, MEANT, ROWS
from trainer.formats.sgm import sgm_paths

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
        "adapter.method": "lora",
        "adapter.rank": 32,
        "adapter.alpha": 16,
        "adapter.text_encoder": True,
        "optimizer.learning_rate": 5e-4,
        "optimizer.text_encoder_learning_rate": 1e-4,
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.1,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.99,
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
        "pretrained_model_name_or_path", "learning_rate", "max_train_steps", "mixed_precision", "xformers",
        "cache_latents", "huber_c",
    }  # fmt: skip
    assert left["learning_rate"] == "unet_lr overrules it"
    assert "epochs" in left["max_train_steps"] and "objective.huber_c counts only where" in left["huber_c"]
    config = compose([{"training": {"views": 5}}, found.layer, {"dataset": {"path": "x"}}])
    assert config.objective.weighting == "min_snr" and config.training.epochs == 10 and config.training.views is None


def test_what_kohya_ss_saves_as_json_with_empty_fields_and_text_for_numbers(tmp_path):
    path = tmp_path / "preset.json"
    values = {"network_dim": 8, "network_alpha": 0, "learning_rate": "0.0001", "unet_lr": 0, "text_encoder_lr": 0,
              "optimizer": "Adafactor2000", "lr_scheduler": "warmup_stable_decay", "epoch": "4",
              "max_resolution": "1,1", "noise_offset": "", "lr_warmup": "", "seed": "", "sdxl": True,
              "network_dropout": 3}  # fmt: skip
    path.write_text(json.dumps(values))
    found = read_foreign(path)
    assert {setting: value for _, setting, value in found.taken} == {
        "adapter.rank": 8, "adapter.alpha": "auto", "adapter.text_encoder": False, "training.epochs": 4,
    }  # fmt: skip
    left = {name: reason for name, _, reason in found.left}
    assert left.keys() == {"optimizer", "lr_scheduler", "learning_rate", "max_resolution", "sdxl", "network_dropout"}
    assert left["optimizer"] == "there is no such thing here" and "adapter.dropout" in left["network_dropout"]
    compose([found.layer, {"dataset": {"path": "x"}}])


def test_the_metadata_of_an_adapter_file_of_ours(tmp_path):
    path = tmp_path / "a.safetensors"
    metadata = {key: value for key, value in adapter_metadata(FACTS).items() if key != "lora_atelier.recipe"}
    save_file({"x": np.zeros(1, np.float32)}, path, metadata)
    settings = {setting: value for _, setting, value in read_foreign(path).taken}
    assert settings["adapter.rank"] == FACTS.rank and settings["adapter.alpha"] == FACTS.alpha
    assert settings["optimizer.learning_rate"] == FACTS.learning_rate
    assert settings["training.batch_size"] == FACTS.batch_size and settings["training.seed"] == FACTS.seed


def test_a_file_of_ours_gives_back_all_that_it_was_trained_with(tmp_path):
    told = {
        "objective": {"weighting": "debiased", "loss": "huber", "stratified": True, "timesteps": "early"},
        "training": {"steps": 7, "batch_size": 2, "ema": 0.9}, "export": {"ema": True},
        "adapter": {"method": "lokr", "factor": 4}, "schedule": {"warmup": 3},
        "model": {"base": "/home/ada/base"}, "dataset": {"path": "/home/ada/pictures", "flip": True},
    }  # fmt: skip
    config, path = compose([told]), tmp_path / "a.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, adapter_metadata(replace(FACTS, recipe=to_toml(config))))
    found = read_foreign(path)
    here = {"model": {"base": "/home/ada/base"}, "dataset": {"path": "/home/ada/pictures"}}
    assert compose([found.layer, here]) == config
    assert {name for name, _, _ in found.left} == {"model.base", "dataset.path"}
    save_file({"x": np.zeros(1, np.float32)}, path, {**adapter_metadata(FACTS), "lora_atelier.recipe": "[nothing]"})
    assert read_foreign(path).layer["adapter"]["rank"] == FACTS.rank, "what it tells other programs is left"


def test_metadata_tells_steps_and_tables_are_no_options(tmp_path):
    path = tmp_path / "a.safetensors"
    told = {
        "network_dim": "16", "network_alpha": "8", "num_epochs": "10", "epoch": "10", "max_train_steps": "2000",
        "num_train_images": "200", "tag_frequency": json.dumps({"10_cat": {"seed": 3, "flip_aug": 1}}),
        "dataset_dirs": json.dumps({"10_cat": {"n_repeats": 10, "img_count": 20}}),
    }  # fmt: skip
    tensors = {"lora_unet_x.alpha": np.zeros(1, np.float32)}
    for name, trained in (("lora_unet_y.alpha", False), ("lora_te_x.alpha", True)):
        save_file(tensors | {name: np.zeros(1, np.float32)}, path, {f"ss_{key}": value for key, value in told.items()})
        found = read_foreign(path)
        assert {setting: value for _, setting, value in found.taken} == {
            "adapter.rank": 16, "adapter.alpha": 8, "adapter.text_encoder": trained, "training.steps": 2000,
        }  # fmt: skip


def test_kohya_trains_the_text_encoder_unless_it_is_told_not_to():
    plain = {"network_dim": 32, "max_train_steps": 1000}
    assert translate(plain).layer["adapter"]["text_encoder"] is True
    for said in ({"network_train_unet_only": True}, {"text_encoder_lr": 0}):
        assert translate(plain | said).layer["adapter"]["text_encoder"] is False
    assert "text_encoder" not in translate(plain | {"cache_text_encoder_outputs": True}).layer["adapter"]


def test_no_name_is_in_two_tables():
    assert not ROWS.keys() & LEFT.keys() and not ALIASES.keys() & ROWS.keys()
    assert {*MEANT, *GOES_WITH, *GOES_WITH.values()} <= ROWS.keys()


VALUES = {"max_train_steps": 500, "max_token_length": 150, "resolution": 512, "text_encoder_lr": 1e-4, "lr_warmup": 5,
          "LoRA_type": "Standard", "network_module": "networks.loha", "algo": "diag-oft", "LyCORIS_preset": "attn-only",
          "preset": "full", "targets": "attention", "ranks": {"mid_block.*": 4}, "alphas": {"mid_block.*": 4},
          "optimizer_type": "Lion8bit", "lr_scheduler": "linear", "sample_sampler": "ddim", "save_precision": "float",
          "loss_type": "huber", "huber_schedule": "exponential", "factor": 4, "max_timestep": 900}  # fmt: skip
HALF = ("network_dropout", "dropout", "rank_dropout", "module_dropout", "validation_split", "caption_dropout_rate",
        "caption_tag_dropout_rate", "lr_scheduler_min_lr_ratio", "noise_offset", "multires_noise_discount",
        "ip_noise_gamma", "huber_c")  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_every_row_gives_settings_that_there_are(name):
    made = ROWS[name](VALUES.get(name, 0.5 if name in HALF else 1))
    assert made and made.keys() <= set(setting_names())
    layer = {}
    for setting, value in made.items():
        section, _, key = setting.partition(".")
        layer.setdefault(section, {})[key] = value
    compose([{"dataset": {"path": "x"}}, layer], "keep")


def of(**values):
    """(settings, name -> reason) of some options."""
    found = translate(values)
    compose([found.layer, {"dataset": {"path": "x"}}])  # whatever is taken can be run
    return {setting: value for _, setting, value in found.taken}, {name: reason for name, _, reason in found.left}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("AdamW", {"optimizer.name": "adamw"}),
        ("PagedAdamW32bit", {"optimizer.name": "adamw"}),
        ("AdamW8bit", {"optimizer.name": "adamw8bit"}),
        ("pagedadamw8bit", {"optimizer.name": "adamw8bit"}),
        ("PagedLion8bit", {"optimizer.name": "lion"}),
        ("SGDNesterov", {"optimizer.name": "sgd", "optimizer.arguments": {"nesterov": True}}),
        ("AdaFactor", {"optimizer.name": "adafactor"}),
        ("AdamWScheduleFree", {"optimizer.name": "schedulefree"}),
        ("torch.optim.adamw.AdamW", {"optimizer.name": "adamw"}),
        ("torch.optim.NAdam", {"optimizer.name": "torch.optim.NAdam"}),
    ],
)
def test_optimizers_by_all_the_names_that_kohya_has_for_them(name, settings):
    assert of(optimizer_type=name) == (settings, {})


def test_what_belongs_to_an_optimizer_that_is_not_here_is_left_with_it():
    taken, left = of(optimizer_type="DAdaptAdam", learning_rate=1.0, text_encoder_lr=0.5, unet_lr=1.0,
                     optimizer_args=["decouple=True"], max_grad_norm=0)  # fmt: skip
    assert taken == {"optimizer.clip_norm": 0}
    assert left.keys() == {"optimizer_type", "learning_rate", "text_encoder_lr", "unet_lr", "optimizer_args.decouple"}


@pytest.mark.parametrize(
    ("optimizer", "arguments", "settings", "left"),
    [
        ("Prodigy", ["decouple=True", "weight_decay=0.01", "d_coef=2", "betas=0.9,0.99", "use_bias_correction=False"],
         {"optimizer.weight_decay": 0.01, "optimizer.beta1": 0.9, "optimizer.beta2": 0.99,
          "optimizer.arguments": {"decouple": True, "d_coef": 2, "use_bias_correction": False}}, set()),
        ("AdamW8bit", "weight_decay=0 betas=(0.8,0.95) eps=1e-6",
         {"optimizer.weight_decay": 0, "optimizer.beta1": 0.8, "optimizer.beta2": 0.95, "optimizer.epsilon": 1e-6},
         set()),
        ("AdamW", {"weight_decay": "0.1", "amsgrad": True}, {"optimizer.weight_decay": 0.1}, {"amsgrad"}),
        ("AdamW", ["betas=0.9", "eps=x", "weight_decay=7", "0.99"], {}, {"betas", "eps", "weight_decay", "0.99"}),
        ("AdamW", ["eps=1e-7", "weight_decay=", "eps=1e-6"], {"optimizer.epsilon": 1e-6}, {"eps"}),
        ("Lion", ["betas=[0.95,0.98]"], {"optimizer.beta1": 0.95, "optimizer.beta2": 0.98}, set()),
        ("CAME", ["betas=0.9,0.999,0.9999", "weight_decay=0.01"],
         {"optimizer.weight_decay": 0.01, "optimizer.arguments": {"betas": (0.9, 0.999, 0.9999)}}, set()),
        ("SGDNesterov", ["momentum=0.8"], {"optimizer.beta1": 0.8, "optimizer.arguments": {"nesterov": True}}, set()),
        ("AdaFactor", ["scale_parameter=False", "relative_step=False", "warmup_init=False"],
         {"optimizer.arguments": {"scale_parameter": False, "relative_step": False, "warmup_init": False}}, set()),
        ("Prodigy", ["d_coef=much", "d0=1e400"], {}, {"d_coef", "d0"}),
        ("torch.optim.NAdam", ["momentum_decay=0.004", "foo=x"],
         {"optimizer.arguments": {"momentum_decay": 0.004}}, {"foo"}),
    ],
)  # fmt: skip
def test_arguments_of_optimizers(optimizer, arguments, settings, left):
    taken, reasons = of(optimizer_type=optimizer, optimizer_args=arguments)
    del taken["optimizer.name"]
    assert taken == settings
    assert {name.removeprefix("optimizer_args.") for name in reasons} == left


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_classes_take_the_arguments_that_are_handed_on(name):
    row = optimizer_row(name)
    assert set(ARGUMENTS[name]) <= set(inspect.signature(resolve(row)).parameters) and not set(ARGUMENTS[name]) & set(
        row.passes
    )


def test_a_rate_that_adafactor_would_not_have_used_is_not_taken():
    assert of(optimizer_type="Adafactor", unet_lr=1e-3)[0] == {"optimizer.name": "adafactor"}
    assert of(optimizer_type="Adafactor", unet_lr=1e-3, optimizer_args=["relative_step=True"])[1].keys() == {
        "unet_lr", "optimizer_args.relative_step",
    }  # fmt: skip
    taken, _ = of(optimizer_type="Adafactor", unet_lr=1e-3, optimizer_args=["relative_step=False"])
    assert taken["optimizer.learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"lr_scheduler": "cosine_with_restarts"}, {"schedule.name": "restarts", "schedule.cycles": 1}),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": "3"},
         {"schedule.name": "restarts", "schedule.cycles": 3}),
        ({"lr_scheduler": "polynomial"}, {"schedule.name": "polynomial", "schedule.power": 1.0}),
        ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2}, {"schedule.name": "polynomial", "schedule.power": 2}),
        ({"lr_scheduler": "linear", "lr_warmup_steps": 0}, {"schedule.name": "linear", "schedule.warmup": 0}),
        ({"lr_scheduler": "linear", "lr_warmup_steps": 0.05}, {"schedule.name": "linear", "schedule.warmup": 0.05}),
        ({"lr_warmup_steps": "10%"}, {"schedule.warmup": 0.1}),
        ({"lr_warmup_steps": "1"}, {"schedule.warmup": 1}),
        ({"lr_warmup": 10, "lr_warmup_steps": 0}, {"schedule.warmup": 0.1}),
        ({"lr_warmup": 0, "lr_warmup_steps": 50}, {"schedule.warmup": 50}),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 50},
         {"schedule.name": "constant", "schedule.warmup": 50}),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 50}, {"schedule.name": "constant", "schedule.warmup": 0}),
        ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1},
         {"schedule.name": "cosine", "schedule.final": 0.1}),
    ],
)  # fmt: skip
def test_schedules(values, settings):
    assert of(**values)[0] == settings


def test_settings_of_a_schedule_that_is_not_taken_or_does_not_read_them_are_left():
    assert of(lr_scheduler="inverse_sqrt", lr_scheduler_power=2)[1].keys() == {"lr_scheduler", "lr_scheduler_power"}
    assert (
        "schedule.power counts only where" in of(lr_scheduler="cosine", lr_scheduler_power=2)[1]["lr_scheduler_power"]
    )
    assert of(lr_scheduler="constant", lr_warmup_steps=9)[1] == {"lr_warmup_steps": "lr_scheduler overrules it"}


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"loraplus_lr_ratio": 16}, {"optimizer.lora_plus_ratio": 16}),
        ({"network_args": ["loraplus_unet_lr_ratio=8"]}, {"optimizer.lora_plus_ratio": 8}),
        ({"network_module": "networks.lora", "network_args": ["conv_dim=4", "conv_alpha=2"]},
         {"adapter.method": "lora", "adapter.targets": "everything", "adapter.conv_rank": 4, "adapter.conv_alpha": 2}),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=loha"]},
         {"adapter.method": "loha", "adapter.targets": "everything"}),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "preset=attn-mlp", "factor=-1"]},
         {"adapter.method": "lokr", "adapter.targets": "transformer", "adapter.factor": "auto"}),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=locon", "dora_wd=True", "conv_dim=0"]},
         {"adapter.method": "dora", "adapter.targets": "transformer"}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": 8, "LyCORIS_preset": "full", "conv_dim": 4, "conv_alpha": 1},
         {"adapter.method": "lokr", "adapter.factor": 8, "adapter.targets": "everything", "adapter.conv_rank": 4,
          "adapter.conv_alpha": 1}),
        ({"LoRA_type": "Standard", "LyCORIS_preset": "full", "conv_dim": 1, "factor": -1}, {"adapter.method": "lora"}),
        ({"network_dim": 8}, {"adapter.rank": 8, "adapter.alpha": 1, "adapter.text_encoder": True}),
        ({"network_module": "networks.oft", "scale_weight_norms": 1.0}, {"adapter.method": "oft"}),
        ({"text_encoder_lr": [1e-4, 5e-5]},
         {"optimizer.text_encoder_learning_rate": 1e-4, "optimizer.text_encoder_2_learning_rate": 5e-5,
          "adapter.text_encoder": True}),
        ({"text_encoder_lr": 1e-4, "network_train_unet_only": True}, {"adapter.text_encoder": False}),
        ({"network_args": {"targets": "attention", "rs_lora": True}},
         {"adapter.targets": "attention", "adapter.rslora": True}),
    ],
)  # fmt: skip
def test_networks(values, settings):
    assert of(**values)[0] == settings


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"network_args": ["algo=ia3", "use_tucker=True"]}, {"network_args.algo", "network_args.use_tucker"}),
        ({"network_args": ["algo=lokr", "dora_wd=True"]}, {"network_args.dora_wd"}),
        ({"LoRA_type": "Standard", "conv_dim": 1, "conv_alpha": 1}, {"conv_dim", "conv_alpha"}),
        ({"network_module": "networks.dylora", "network_args": ["unit=4"]}, {"network_module", "network_args.unit"}),
        ({"network_dim": 100000, "network_alpha": 1}, {"network_dim", "network_alpha"}),
        ({"loraplus_lr_ratio": 16, "loraplus_unet_lr_ratio": 8}, {"loraplus_lr_ratio"}),
        ({"loraplus_text_encoder_lr_ratio": 4}, {"loraplus_text_encoder_lr_ratio"}),
        ({"optimizer_type": "Prodigy", "loraplus_lr_ratio": 16}, {"loraplus_lr_ratio"}),
        ({"optimizer_type": "Prodigy", "unet_lr": 1, "text_encoder_lr": [0.5, 0.5]}, {"text_encoder_lr"}),
        ({"noise_offset": 0.1, "multires_noise_iterations": 6}, {"noise_offset"}),
        ({"noise_offset": 0.1, "multires_noise_iterations": 6, "noise_offset_type": "Original"},
         {"multires_noise_iterations"}),
        ({"network_args": ["conv_dim"]}, {"network_args.conv_dim"}),
        ({"network_args": "{broken json}"}, {"network_args.{broken", "network_args.json}"}),
        ({"text_encoder_lr": [1, 2, 3]}, {"text_encoder_lr"}),
        ({"down_lr_weight": "1,1"}, {"down_lr_weight"}),
    ],
)  # fmt: skip
def test_nothing_is_lost_without_a_word(values, names):
    assert of(**values)[1].keys() == names


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))",
         {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1, "optimizer.beta1": 0.9, "optimizer.beta2": 0.99}),
        ("prodigyopt.prodigy.Prodigy(d_coef=2.0)",
         {"optimizer.name": "prodigy", "optimizer.arguments": {"d_coef": 2.0}}),
        ("bitsandbytes.optim.adamw.AdamW8bit", {"optimizer.name": "adamw8bit"}),
        ("AdamW(", {"optimizer.name": "adamw"}),
    ],
)  # fmt: skip
def test_an_optimizer_as_metadata_has_it(tmp_path, text, settings):
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, {"ss_optimizer": text, "ss_session_id": "1"})
    found = read_foreign(path)
    assert {setting: value for _, setting, value in found.taken} == settings
    assert found.left == (("session_id", 1, "tells of the file and sets nothing"),)


@cache
def unet_paths(family):
    """Layers that are trained with convolutions, of a UNet in full size."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNETS[family])
    layers = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    return [name for name in layers if name.startswith(STORED)]


def kohya_number(path, family):
    """A layer's block by kohya's own rules: by diffusers' names for SD 1.x, by SGM's for SDXL."""
    if family == "sd1":
        if path.startswith("mid_block"):
            return 12
        way, level, kind, layer = re.match(r"(up|down)_blocks\.(\d)\.(\w+)\.(\d)", path).groups()
        return (1 if way == "down" else 13) + 3 * int(level) + (2 if "samplers" in kind else int(layer))
    way, number = re.match(r"(input|middle|output)_blocks?\.(\d)", sgm_paths(unet_paths(family))[path]).groups()
    return {"input": 1, "middle": 10, "output": 13}[way] + int(number)


@pytest.mark.parametrize(("count", "family"), [(25, "sd1"), (23, "sdxl")])
@pytest.mark.parametrize("convolutions", [False, True])
def test_sizes_of_blocks_reach_the_layers_that_kohya_gives_them_to(count, family, convolutions):
    values = {"network_args": {"block_dims": ",".join(map(str, range(1, count + 1)))}, "network_alpha": 2}
    taken, left = of(**values, **({"conv_dim": 99} if convolutions else {}))
    assert not left
    ranks, alphas = taken["adapter.ranks"], taken["adapter.alphas"]
    assert alphas == dict.fromkeys(ranks, 2)
    paths = [path for path in unet_paths(family) if convolutions or "attentions" in path]
    for pattern in ranks:
        assert any(fnmatchcase(path, pattern) for path in paths), f"{pattern} is for no layer"
    for path in paths:
        found = {rank for pattern, rank in ranks.items() if fnmatchcase(path, pattern)}
        spatial = path.endswith(("conv1", "conv2", "samplers.0.conv"))
        assert found == (set() if spatial else {kohya_number(path, family) + 1})


def test_sizes_of_blocks_that_do_not_fit_are_left():
    taken, left = of(block_dims="1,2,3", block_alphas=",".join(["1"] * 25), network_dim=8, network_alpha=8)
    assert "adapter.ranks" not in taken and set(taken["adapter.alphas"].values()) == {1}
    assert "SD 1.x and 2.x have 25 blocks" in left["block_dims"]
    assert of(block_dims="a,b")[1]["block_dims"] == "this value cannot be read"


@pytest.mark.parametrize("content", ["", "[1, 2]", "not = [toml", "x = 1", "\x00"])
@pytest.mark.parametrize("suffix", [".toml", ".json", ".safetensors"])
def test_other_files_are_refused_in_words(tmp_path, content, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_text(content)
    with pytest.raises(UserError):
        read_foreign(path)
    with pytest.raises(UserError):
        read_foreign(tmp_path / f"none{suffix}")


SAID = st.sampled_from([1, 0.5, "0.1", True, "lora", "cosine", "AdamW", "Prodigy", [1e-4, 5e-5], "1,2", "x", -1, "8",
                        "original", "standard", "lycoris.kohya", 25 * [4], 1e400, "wd=1"])  # fmt: skip
NAMES = [*ROWS, *ALIASES, *LEFT, "dora_wd", "block_dims", "block_alphas", "noise_offset_type", "strange"]
INSIDE = [f"network_args.{name}" for name in ("algo", "dora_wd", "conv_dim", "block_dims", "unit", "preset")]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SAID, max_size=12), st.dictionaries(st.sampled_from(INSIDE), SAID))
def test_every_field_is_taken_or_listed(values, inside):
    given = values | {"network_args": {name.partition(".")[2]: value for name, value in inside.items()}}
    found = translate(given)
    compose([found.layer, {"dataset": {"path": "x"}}])
    told = {name for name, _, _ in found.taken} | {name for name, _, _ in found.left}
    heeded = {"noise_offset_type"} if values.get("noise_offset_type") == "original" else set()
    assert (
        told - {"network_alpha, not said and so 1", "network_train_unet_only, not said and so off"}
        == (values.keys() | inside.keys()) - heeded
    )


@pytest.mark.parametrize("value", [None, [], {}, "nan", "inf", -1, 1e400, "x" * 1000, True, [[]]])
def test_no_value_breaks_it(value):
    found = translate(dict.fromkeys([*ROWS, *ALIASES, *LEFT, "strange", "network_args", "block_dims"], value))
    compose([found.layer, {"dataset": {"path": "x"}}], "keep")
