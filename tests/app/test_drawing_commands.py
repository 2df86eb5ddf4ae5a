"""`atelier grid` and `atelier recommend`, with the trainer behind them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from app.__main__ import cli
from app.commands.recommending import STRENGTHS, taught_of
from tests.tiny import make_pictures, make_tiny_sd
from trainer.contract.errors import UserError
from trainer.formats.header import body_sha256, read_header
from trainer.formats.parameters import parse_parameters


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    path = tmp_path / "ink.safetensors"
    tensors = {f"{stem}.lora_down.weight": torch.ones(2, 32, 1, 1), f"{stem}.lora_up.weight": torch.ones(32, 2, 1, 1)}
    save_file(tensors, path, {"modelspec.title": "ink"})
    return path


def said(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_grid_is_a_table_and_a_folder(base: Path, file: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "deep" / "grid.png", tmp_path / "cells"
    axes = ["--x", f"adapter={file},", "--y", "prompt=a cat, red|a dog"]
    told = said("grid", *axes, "--base", base, "--steps", 1, "--out", out, "--folder", folder, "--data-dir", tmp_path)
    assert told["pictures"] == 4 and told["file"] == str(out) and len(told["files"]) == 4
    with Image.open(out) as sheet:
        assert sheet.width > 2 * 64 and "lora_atelier.grid" in sheet.text
    texts = []
    for one in told["files"]:
        with Image.open(one) as image:
            texts.append(parse_parameters(image.text["parameters"]))
    assert [one.prompt for one in texts] == ["a cat, red"] * 2 + ["a dog"] * 2
    assert [len(one.loras) for one in texts] == [1, 0, 1, 0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(one).name for one in told["files"])


def test_a_recommended_strength_is_written_where_the_user_agrees(base: Path, file: Path, tmp_path: Path) -> None:
    taught, before = make_pictures(tmp_path / "set", 4), body_sha256(file)
    options = ["--dataset", taught, "--base", base, "--prompts", 1, "--steps", 1, "--data-dir", tmp_path]
    told = said("recommend", file, *options, "--write")
    assert list(map(float, told["shares"])) == sorted(map(float, STRENGTHS)) and told["shares"]["0.0"] == 0
    metadata = read_header(file).metadata
    assert told["written"] == (told["strength"] is not None) == ("modelspec.lora_default_weight" in metadata)
    if told["written"]:
        assert float(metadata["modelspec.lora_default_weight"]) == told["strength"]
        assert metadata["lora_atelier.default_weight_reason"] == told["reason"]
    assert body_sha256(file) == before and metadata["modelspec.title"] == "ink"


def test_a_set_without_words_or_with_one_picture_is_said(tmp_path: Path) -> None:
    make_pictures(tmp_path / "one", 1)
    with pytest.raises(UserError, match="too few"):
        taught_of(tmp_path / "one", 4)
    for text in make_pictures(tmp_path / "mute", 3).glob("*.txt"):
        text.unlink()
    with pytest.raises(UserError, match="no captions"):
        taught_of(tmp_path / "mute", 4)
    images, texts = taught_of(make_pictures(tmp_path / "set", 6), 4)
    assert len(images) == 6 and texts == tuple(f"a picture number {number}" for number in (0, 2, 4))
