"""What a file says about itself: honest, complete, and the same every time."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from trainer.formats.header import body_sha256, legacy_hash, parse_header, with_metadata
from trainer.formats.metadata import AdapterFacts, Folder, adapter_metadata, renamed, sign, without_places

SGM = "https://github.com/Stability-AI/generative-models"
FACTS = AdapterFacts(
    name="My fox",
    base_version="sd_v1",
    base_name="runwayml/stable-diffusion-v1-5",
    rank=16,
    alpha=8.0,
    pictures=3,
    resolution=512,
    steps=300,
    epochs=10,
    batch_size=2,
    accumulation=2,
    learning_rate=1e-4,
    optimizer="adamw",
    schedule="cosine",
    seed=7,
    recipe='[dataset]\npath = "/home/anna/secret place/foxes"\n',
    trigger="ohwx fox",
    captions=("ohwx fox, snow, Snow", "ohwx fox, snow", "OHWX fox, a tree"),
    repeats=10,
    buckets=((512, 512, 2), (448, 576, 1)),
    precision="bf16",
    versions={"torch": "2.13.0", "diffusers": "0.42.1"},
)


def test_every_value_is_text():
    everything = replace(FACTS, cover=b"png", clip_skip=2, preferred_strength=0.8, has_text_encoder=True)
    assert {type(value) for value in adapter_metadata(everything).values()} == {str}


def test_kohya_names():
    written = adapter_metadata(FACTS)
    expected = {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": "runwayml/stable-diffusion-v1-5",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "16",
        "ss_network_alpha": "8",
        "ss_output_name": "My-fox",
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "None",
        "ss_optimizer": "adamw",
        "ss_lr_scheduler": "cosine",
        "ss_resolution": "(512, 512)",
        "ss_num_train_images": "30",
        "ss_num_epochs": "10",
        "ss_epoch": "10",
        "ss_steps": "300",
        "ss_total_batch_size": "4",
        "ss_seed": "7",
        "ss_mixed_precision": "bf16",
        "ss_clip_skip": "None",
        "format": "pt",
    }
    assert {key: written[key] for key in expected} == expected


def test_tags_are_counted_once_a_picture_with_the_trigger_first():
    frequency = json.loads(adapter_metadata(FACTS)["ss_tag_frequency"])
    assert frequency == {"10_ohwx fox": {"ohwx fox": 3, "snow": 2, "a tree": 1}}
    assert list(frequency["10_ohwx fox"]) == ["ohwx fox", "snow", "a tree"]


def test_json_fields_have_the_form_that_web_uis_read():
    written = adapter_metadata(FACTS)
    buckets = json.loads(written["ss_bucket_info"])["buckets"]
    assert buckets == {"0": {"resolution": [512, 512], "count": 2}, "1": {"resolution": [448, 576], "count": 1}}
    assert json.loads(written["ss_dataset_dirs"]) == {"10_ohwx fox": {"n_repeats": 10, "img_count": 3}}
    assert json.loads(written["ss_datasets"])[0]["subsets"][0]["class_tokens"] == "ohwx fox"
    assert json.loads(written["ss_network_args"]) == {}


def test_modelspec():
    spec = {key: value for key, value in adapter_metadata(FACTS).items() if key.startswith("modelspec.")}
    assert spec == {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "My fox",
        "modelspec.resolution": "512x512",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "ohwx fox",
        "modelspec.usage_hint": 'Put "ohwx fox" in the prompt.',
    }


@pytest.mark.parametrize(
    ("version", "architecture", "is_v2", "implementation"),
    [
        ("lora-atelier-demo", "lora-atelier-demo", "False", "diffusers"),
        ("sd_v1_v", "stable-diffusion-v1/lora", "False", "diffusers"),
        ("sd_v2", "stable-diffusion-v2-768-v/lora", "True", "diffusers"),
        ("sd_v2_v", "stable-diffusion-v2-768-v/lora", "True", "diffusers"),
        ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora", "False", SGM),
    ],
)
def test_the_base_is_named_honestly(version, architecture, is_v2, implementation):
    written = adapter_metadata(replace(FACTS, base_version=version))
    assert written["ss_base_model_version"] == version
    assert written["modelspec.architecture"] == architecture
    assert written["modelspec.implementation"] == implementation
    assert written["ss_v2"] == is_v2


@pytest.mark.parametrize(
    ("prediction", "terminal", "expected"),
    [("epsilon", False, ("epsilon", "False")), ("v_prediction", True, ("v", "True"))],
)
def test_the_noise_schedule_is_told(prediction, terminal, expected):
    written = adapter_metadata(replace(FACTS, prediction_type=prediction, zero_terminal_snr=terminal))
    assert (written["modelspec.prediction_type"], written["ss_zero_terminal_snr"]) == expected


def test_private_captions_leave_nothing_but_the_trigger():
    written = adapter_metadata(replace(FACTS, captions=None))
    assert json.loads(written["ss_tag_frequency"]) == {"10_ohwx fox": {"ohwx fox": 3}}
    assert "snow" not in json.dumps(written)


def test_every_set_has_its_folder():
    further = (
        Folder(trigger="zkz hat", pictures=2, captions=("zkz hat, snow",) * 2),
        Folder(pictures=4, repeats=3, captions=("a fox",) * 4, name="other foxes", regularisation=True),
    )
    written = adapter_metadata(replace(FACTS, further=further))
    frequency = json.loads(written["ss_tag_frequency"])
    assert frequency == {
        "10_ohwx fox": {"ohwx fox": 3, "snow": 2, "a tree": 1},
        "1_zkz hat": {"zkz hat": 2, "snow": 2},
    }
    assert json.loads(written["ss_dataset_dirs"]) == {
        "10_ohwx fox": {"n_repeats": 10, "img_count": 3},
        "1_zkz hat": {"n_repeats": 1, "img_count": 2},
    }
    assert json.loads(written["ss_reg_dataset_dirs"]) == {"3_other-foxes": {"n_repeats": 3, "img_count": 4}}
    assert (written["ss_num_train_images"], written["ss_num_reg_images"]) == ("32", "12")
    subsets = json.loads(written["ss_datasets"])[0]["subsets"]
    assert [(one["class_tokens"], one["is_reg"]) for one in subsets] == [
        ("ohwx fox", False),
        ("zkz hat", False),
        (None, True),
    ]
    assert written["modelspec.trigger_phrase"] == "ohwx fox, zkz hat"


def test_a_save_tells_its_own_step_and_the_whole_length():
    written = adapter_metadata(replace(FACTS, steps=150, epochs=5, total_steps=300, total_epochs=10))
    keys = ("ss_steps", "ss_epoch", "ss_max_train_steps", "ss_num_epochs")
    assert [written[key] for key in keys] == ["150", "5", "300", "10"]


def test_what_its_maker_says_and_what_it_was_made_of():
    facts = replace(
        FACTS,
        author="Anna", license="CC-BY-4.0", description="A fox.", preferred_strength=0.8, ema=0.999,
        dataset_sha256="ab" * 32, base_sha256="cd" * 32, base_short_hash="01234567",
    )  # fmt: skip
    expected = {
        "modelspec.author": "Anna",
        "modelspec.license": "CC-BY-4.0",
        "modelspec.description": "A fox.",
        "modelspec.lora_default_weight": "0.8",
        "lora_atelier.ema": "0.999",
        "lora_atelier.dataset_sha256": "ab" * 32,
        "ss_new_sd_model_hash": "cd" * 32,
        "ss_sd_model_hash": "01234567",
    }
    written = adapter_metadata(facts)
    assert {key: written[key] for key in expected} == expected
    assert adapter_metadata(FACTS)["lora_atelier.ema"] == "None"
    assert not expected.keys() - {"lora_atelier.ema"} & adapter_metadata(FACTS).keys()


def test_a_copy_under_another_name_is_another_lora_with_the_same_weights():
    body = np.arange(40, dtype=np.float16)
    before = sign(with_metadata(save({"t": body}), adapter_metadata(FACTS)))
    after = renamed(before, "fox-best")
    metadata = parse_header(after).metadata
    assert (metadata["ss_output_name"], metadata["modelspec.title"]) == ("fox-best", "fox-best")
    assert metadata["sshs_model_hash"] == hashlib.sha256(body.tobytes()).hexdigest()
    assert metadata["sshs_legacy_hash"] == legacy_hash(after)
    changed = {key for key, value in metadata.items() if value != parse_header(before).metadata[key]}
    assert changed <= {"ss_output_name", "modelspec.title", "sshs_legacy_hash"}


def test_no_place_and_no_time_gets_into_the_file():
    written = adapter_metadata(replace(FACTS, base_name="/home/anna/models/base.safetensors"))
    assert "anna" not in json.dumps(written)
    assert written["ss_sd_model_name"] == "base.safetensors"
    assert not any(key.endswith(("date", "time", "_at")) for key in written)
    elsewhere = replace(FACTS, recipe='[dataset]\npath = "/mnt/other/foxes"\n')
    assert adapter_metadata(elsewhere) == adapter_metadata(FACTS)


def test_the_session_follows_the_recipe():
    session = adapter_metadata(FACTS)["ss_session_id"]
    assert re.fullmatch(r"[0-9]+", session)
    assert adapter_metadata(replace(FACTS, recipe="seed = 8"))["ss_session_id"] != session


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ('a = "/x/o\'brien/data/"', 'a = "data"'),
        (r'a = "C:\\Users\\me\\data"', 'a = "data"'),
        ("a = '~/pictures/data'", "a = 'data'"),
        ('a = "outputs/data"', 'a = "outputs/data"'),
        ('a = "owner/name"\nb = ["x, /y", 1]', 'a = "owner/name"\nb = ["x, /y", 1]'),
    ],
)
def test_absolute_paths_keep_their_last_part(recipe, kept):
    assert without_places(recipe) == kept


def test_the_cover_is_there_for_both_kinds_of_reader():
    written = adapter_metadata(replace(FACTS, cover=b"png bytes"))
    assert base64.b64decode(json.loads(written["ssmd_cover_images"])[0]) == b"png bytes"
    assert written["modelspec.thumbnail"] == "data:image/png;base64," + base64.b64encode(b"png bytes").decode()
    large = adapter_metadata(replace(FACTS, cover=b"x" * 200_000))
    assert "modelspec.thumbnail" not in large
    assert "ssmd_cover_images" in large


def test_signed_hashes_are_true_for_the_signed_file():
    body = np.random.default_rng(0).integers(0, 255, 0x120000, dtype=np.uint8)
    unsigned = with_metadata(save({"t": body}), adapter_metadata(FACTS))
    signed = sign(unsigned)
    metadata = parse_header(signed).metadata
    digest = hashlib.sha256(body.tobytes()).hexdigest()
    assert metadata["sshs_model_hash"] == digest == body_sha256(signed)
    assert metadata["modelspec.hash_sha256"] == f"0x{digest}"
    assert metadata["sshs_legacy_hash"] == legacy_hash(signed)
    assert metadata.items() >= adapter_metadata(FACTS).items()
    assert np.array_equal(load(signed)["t"], body)
    assert sign(signed) == signed
    assert sign(unsigned) == signed
