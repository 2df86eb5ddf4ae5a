"""The arrows between packages and the sizes that keep every file readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("app", "trainer", "presets") for path in (ROOT / room).rglob("*.py"))
FILE_LINES, FUNCTION_LINES, LOOP_LINES = 400, 50, 60


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_sources_are_found():
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= FILE_LINES, f"{lines} lines: a file holds one subject in at most {FILE_LINES}"
    long = [f"{node.name} ({node.end_lineno - node.lineno + 1})" for node in functions(path)
            if node.end_lineno - node.lineno + 1 > FUNCTION_LINES]  # fmt: skip
    assert not long, f"functions over {FUNCTION_LINES} lines: {', '.join(long)}"


def test_the_loop_fits_a_screen_and_names_no_model():
    path = ROOT / "trainer" / "loop.py"
    assert len(path.read_text("utf-8").splitlines()) <= LOOP_LINES
    imported = {
        node.module for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
    }
    assert imported == {"trainer.protocols"}


def test_there_is_no_room_for_everything():
    assert not [path for path in SOURCES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_the_arrows_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "tool",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=" ".join,
)
def test_the_linters_are_content(tool):
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.parametrize(
    "module",
    [
        "trainer.contract.compose",
        "trainer.contract.rundir",
        "trainer.pictures.importing",
        "trainer.formats.inspect",
        "app.__main__",
    ],
)
def test_light_modules_do_not_import_torch(module):
    heavy = "{'torch', 'diffusers', 'transformers', 'gradio'}"
    code = f"import sys, {module}; found = {heavy} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
