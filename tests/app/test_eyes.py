"""The crop preview follows what stands in Train."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from app.tabs.dataset import crops
from app.views.eyes import EYES, eye_of, key_of, kind_of
from tests.tiny_checkpoints import tiny_checkpoint
from trainer.contract.compose import compose
from trainer.contract.config import RunConfig
from trainer.contract.presets import load_preset, presets
from trainer.pictures.album import read_folder
from trainer.pictures.crops import plan
from trainer.pictures.gather import crop_options


def config(kind: str, **dataset: object) -> RunConfig:
    shelf = kind.partition("-")[0]
    first = next(iter(presets(shelf)))
    return compose([*load_preset(first, shelf).layers(), {"dataset": {"path": "-", **dataset}}])


@pytest.mark.parametrize("kind", EYES)
def test_a_preset_is_seen_as_its_kind_of_base_sees(kind: str) -> None:
    assert key_of(config(kind), kind) == kind
    assert key_of(config(kind, resolution=8), kind) == kind, "too small is said elsewhere"


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ({"resolution": [512, 768]}, "512, 768 px"),
        ({"resolution": 640}, "640 px"),
        ({"crop": "random"}, "1024 px"),
        ({"max_upscale": 1.0}, "1024 px"),
    ],
)
def test_what_train_asks_for_is_planned_as_the_run_would(asked: dict[str, object], title: str) -> None:
    wanted = config("sdxl", **asked)
    eye = eye_of(key_of(wanted, "sdxl"))
    assert eye.options == crop_options(wanted.dataset, 1024, 32)
    assert eye.title == f"As in Train: {title}"
    assert eye.batch_size == wanted.training.batch_size


def test_all_resolutions_and_all_parts_are_shown(tmp_path: Path) -> None:
    Image.new("RGB", (900, 600)).save(tmp_path / "a.png")
    (entry,) = read_folder(tmp_path).entries
    key = key_of(config("sd", resolution=[256, 512], crop="random"), "sd")
    shown = crops.stage_html(tmp_path, entry, key)
    seen = plan([(entry, (900, 600))], eye_of(key).options)
    assert [one.resolution for one in seen] == [256, 512] and shown.count("<svg") == 2
    assert all(f"{one.bucket.width} × {one.bucket.height}" in shown for one in seen)
    assert shown.count('class="kept"') == sum(len(one.boxes) for one in seen) == 8 and "one of 4 parts" in shown
    told = crops.shapes_html(str(tmp_path), key, 1)
    assert "<b>2</b> steps" in told, "a picture is seen at both"


@pytest.mark.parametrize(
    ("base", "kind"),
    [("demo", "demo"), ("owner/some-xl-model", "sdxl"), ("owner/model", "sd"), ("no such thing", "sd")],
)
def test_the_kind_of_a_base_is_told_by_its_name(base: str, kind: str) -> None:
    assert kind_of(base) == kind


@pytest.mark.parametrize(("family", "kind"), [("sd1", "sd"), ("sd2-v", "sd-768"), ("sdxl", "sdxl")])
def test_the_kind_of_a_base_is_told_by_its_file(tmp_path: Path, family: str, kind: str) -> None:
    name, _, v = family.partition("-")
    base = tiny_checkpoint(name)
    base.tensors.update({"v_pred": torch.zeros(1)} if v else {})
    base.write(tmp_path / "base.safetensors")
    assert kind_of(str(tmp_path / "base.safetensors")) == kind
