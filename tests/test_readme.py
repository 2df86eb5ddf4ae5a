"""README's commands are the ones that CI runs, the others work as they stand there; the guides name what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.__main__ import cli
from trainer.contract.compose import section_fields
from trainer.contract.config import RunConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INSTALLS = [line for line in BLOCKS if line.startswith("pip ")]
COMMANDS = [line for line in BLOCKS if line.startswith("atelier ")]
SHORT = ["--set", "training.steps=4", "--set", "sampling.every=never"]  # the whole length is trained by `atelier demo`


def test_ci_runs_the_two_installs_word_for_word():
    assert len(INSTALLS) == 2
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert [line for line in INSTALLS if line not in lines] == []


def test_nothing_in_the_readme_is_left_unrun():
    assert sorted(BLOCKS) == sorted([*INSTALLS, *COMMANDS, "atelier"])
    assert len(COMMANDS) >= 9


@pytest.mark.xdist_group("readme")
def test_the_commands_run_in_order(tmp_path):
    environment = {**os.environ, "ATELIER_HOME": str(tmp_path / "home"), "ATELIER_PASSWORD": "eleven cats on a roof"}
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    for line in COMMANDS:
        words = shlex.split(line)[1:] + (SHORT if line.startswith("atelier train") else [])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert {"rocket.png", "sweep.png", "my-style.safetensors"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_pictures_and_links_exist(guide):
    local = [link for link in re.findall(r"\]\(([^)]+)\)", guide.read_text("utf-8")) if "://" not in link]
    assert [link for link in local if not (guide.parent / link).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_settings_and_options_are_called_so(guide):
    text = guide.read_text("utf-8")
    named = re.findall(rf"\b({'|'.join(RunConfig.model_fields)})\.(?!png|md)(\w+)", text)
    assert [f"{section}.{key}" for section, key in named if key not in section_fields(section)] == []
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= set(_options(typer.main.get_command(cli)))


def _options(command):
    for option in command.params:
        yield from option.opts
    for inner in getattr(command, "commands", {}).values():
        yield from _options(inner)
