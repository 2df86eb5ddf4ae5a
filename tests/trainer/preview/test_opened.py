"""A base that a run had opened in its own way is opened so for previews too."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from app.commands import images
from tests.tiny import tiny_vae
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.requests import BaseSettings, GenerateRequest, Picture, base_settings
from trainer.contract.rundir import create_run, run_of
from trainer.preview.answer import model_of, preview_engine
from trainer.preview.serve import serve

PROMPT, SEED, STEPS = "a (picture:1.4) BREAK number 1", 5, 4
OWN = {"prediction": "v_prediction", "zero_terminal_snr": "on"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_sd, tiny_set):
    """A trained run whose base is opened with all that can be said of a base on this machine."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(3)
    vae = home / "vae"
    tiny_vae().save_pretrained(vae)
    layer = {
        "model": {"base": str(tiny_sd), "vae": str(vae), **OWN},
        "dataset": {"path": str(tiny_set)},
        "adapter": {"rank": 4},
        "training": {"steps": 3, "batch_size": 2, "threads": 1},
        "sampling": {"every": "100%", "prompts": [PROMPT], "seed": SEED, "steps": STEPS, "guidance": 3.0},
        "export": {"dtype": "fp32"},
    }
    run = create_run(home, "own", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return run


def drawn(folder, base, opened, adapters=()) -> list[np.ndarray]:
    """Pictures for each of these ways to open the base, all asked of one engine."""
    picture = Picture(prompt=PROMPT, seed=SEED, strengths=(1.0,) * len(adapters))
    asked = [
        GenerateRequest(id=f"p{index}", base=base, opened=how, adapters=tuple(map(str, adapters)), pictures=(picture,),
                        steps=STEPS, guidance=3.0, out=str(folder))
        for index, how in enumerate(opened)
    ]  # fmt: skip
    with (folder / "answers").open("w+") as answers:
        serve([request.model_dump_json() for request in asked], answers)
        answers.seek(0)
        told = [json.loads(line) for line in answers]
    files = [answer["files"][0] for answer in told if answer["kind"] == "done"]
    assert len(files) == len(asked), told
    found = []
    for file in files:
        with Image.open(file) as image:
            found.append(np.asarray(image, float))
    return found


def test_a_preview_shows_what_the_runs_own_sample_shows(run, tmp_path):
    config = run.config()
    opened, notices = base_settings(config.model.base, [run.adapter_file])
    assert not notices and opened == BaseSettings(vae=config.model.vae, **OWN)
    (preview, plain) = drawn(tmp_path, config.model.base, [opened, BaseSettings()], [run.adapter_file])
    with Image.open(run.samples / "s000003-0.png") as image:
        sample = np.asarray(image, float)
    assert abs(preview - sample).mean() < 1
    assert abs(plain - sample).mean() > 4


@pytest.mark.parametrize(
    "change",
    [
        {"vae": ""},
        {"dtype": "bf16"},
        {"zero_terminal_snr": "off"},
        {"zero_terminal_snr": "off", "prediction": "epsilon"},
    ],
)
def test_each_setting_is_another_engine(run, tmp_path, change):
    own = {"vae": run.config().model.vae, **OWN}
    other = BaseSettings(**{**own, **change})
    first, changed, again = drawn(tmp_path, run.config().model.base, [BaseSettings(**own), other, BaseSettings(**own)])
    assert np.array_equal(first, again) and not np.array_equal(first, changed)


def test_only_a_run_of_the_same_base_is_asked(run, tmp_path):
    base, file = run.config().model.base, run.adapter_file
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes(file.read_bytes())
    assert run_of(file) == run and run_of(lone) is None
    usual = BaseSettings(), ()
    assert base_settings(base, []) == base_settings(base, [lone]) == base_settings("demo", [file]) == usual
    assert base_settings(base, [lone, file])[0].prediction == "v_prediction"


@pytest.mark.parametrize("line", ["of_a_newer_version = 1", "this is no TOML"])
def test_a_run_whose_config_cannot_be_read_is_told_of_and_drawn_as_usual(run, tmp_path, line):
    other = tmp_path / "other"
    (other / "export").mkdir(parents=True)
    config = (run.path / "config.toml").read_text().replace("[model]", f"[model]\n{line}")
    (other / "config.toml").write_text(config)
    file = other / "export" / "other.safetensors"
    file.write_bytes(run.adapter_file.read_bytes())
    base = run.config().model.base
    opened, (notice,) = base_settings(base, [file])
    assert opened == BaseSettings() and "other" in notice
    assert base_settings(base, [file, run.adapter_file]) == (BaseSettings(vae=run.config().model.vae, **OWN), (notice,))


def test_what_is_said_empty_is_said(run):
    base, file = run.config().model.base, run.adapter_file
    assert images.opened_for(base, [file], (None,) * 4).vae == run.config().model.vae
    assert images.opened_for(base, [file], ("", "", None, None)) == BaseSettings(**OWN)


def test_a_base_is_opened_in_the_number_type_of_the_run(tiny_sd):
    request = GenerateRequest(
        id="x", base=str(tiny_sd), opened=BaseSettings(dtype="bf16"), pictures=(Picture(prompt="x"),), out="o"
    )
    assert preview_engine(model_of(request)).engine.dtype == torch.bfloat16
