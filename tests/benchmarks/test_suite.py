"""The suite measures a real run of the product, on the embedded base."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_run_is_measured_beside_cases_that_fail(tmp_path):
    out = tmp_path / "found.md"
    cases = ["demo:1", "demo:1:engine.nonsense=1", "kohya:demo:1"]
    command = [sys.executable, "-m", "benchmarks", *cases, "--steps", "40", "--work", tmp_path / "work", "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    assert [row["case"] for row in rows] == cases
    assert [row["code"] for row in rows] == [0, 2, 2]
    row = rows[0]
    assert row["rate"] > 0.5
    assert 20 <= row["window"] <= 30
    assert 0 < row["first_step"] < row["whole"]
    assert abs(sum(row["phases"].values()) - row["first_step"]) < 0.1
    assert {"interpreter", "starting", "loading the base model", "reading pictures", "first step"} <= set(row["phases"])
    assert "nonsense" in rows[1]["note"]
    written = json.loads(out.with_suffix(".json").read_text())
    assert [one["case"] for one in written["rows"]] == cases
    assert out.read_text() in done.stdout


def test_what_is_no_case_is_said_before_anything_is_written(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "rate", "--work", tmp_path / "work"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'rate' is no case" in done.stderr
    assert not (tmp_path / "work").exists()
