"""The section of RESULTS.md."""

import json

from benchmarks.report import COLUMNS, Report, insert, section, table
from benchmarks.row import Row

FACTS = {"date": "2026-11-22", "card": "NVIDIA H200", "driver": "580", "torch": "2.11", "commit": "abc"}


def report():
    rows = [
        Row(
            "sd15:8",
            "sd15:8",
            8,
            ours=True,
            code=0,
            rate=15.0,
            allocated=8.93,
            first_step=12.0,
            phases={"starting": 3.0},
        ),
        Row("sd15:8:te", "sd15:8", 8, ours=True, code=0, rate=12.0),
        Row("kohya:sd15:8", "sd15:8", 8, ours=False, code=0, rate=4.0),
        Row("kohya-best:sd15:8", "sd15:8", 8, ours=False, code=0, rate=5.0),
        Row("sdxl:8", "sdxl:8", 8, ours=True, code=1, note="out | of\nmemory"),
    ]
    bare = {"sd15:8:lean:nchw": 16.0, "sd15:8:lean:nhwc": 14.0, "sd15:8:peft:eager": 3.0}
    yardsticks = {name: {"yardstick": name, "it/s": rate, "GiB": 9.0} for name, rate in bare.items()}
    yardsticks["matrix"] = {"yardstick": "matrix", "TFLOP/s": 790.0}
    return Report("python -m benchmarks rates", FACTS, rows, yardsticks)


def cells(line):
    head = [cell.strip() for cell in table(report()).splitlines()[0].strip("|").split("|")]
    return dict(zip(head, [cell.strip() for cell in line.strip("|").split("|")], strict=True))


def test_ratios_are_to_the_best_of_the_same_model_and_batch():
    row = cells(table(report()).splitlines()[2])
    assert row["img/s"] == "120.00"
    assert row["of the card"] == "27.5%"  # 120 * 1.81 / 790
    assert row["of the bare step"] == "0.94"  # of NCHW, the better layout
    assert row["x PEFT"] == "5.0"
    assert row["x kohya"] == "3.0"  # of kohya's better settings
    assert cells(table(report()).splitlines()[3])["x plain case"] == "0.80"


def test_peers_are_compared_with_nothing_and_failures_keep_their_line():
    lines = table(report()).splitlines()
    assert cells(lines[4])["x kohya"] == ""
    assert cells(lines[6])["exit"] == "1"
    assert cells(lines[6])["note"] == "out of memory"


def test_columns_without_a_figure_are_left_out():
    heads = table(report()).splitlines()[0]
    assert "whole run" not in heads
    assert "x diffusers" not in heads
    assert len({name for name, _ in COLUMNS}) == len(COLUMNS)


def test_the_newest_section_stands_first_and_nothing_is_lost():
    new = section(report())
    assert "    python -m benchmarks rates" in new
    assert "790 TFLOP/s" in new
    assert "sd15:8, seconds to the first step: starting 3.0" in new
    old = "# Title\n\nWords.\n\n## Before\n\n| a |\n"
    text = insert(old, new)
    assert text.index("Words.") < text.index("## 2026-11-22") < text.index("## Before")
    assert text.endswith("| a |\n")
    assert insert("# Title\n", new).startswith("# Title\n\n## 2026")


def test_a_report_is_json_without_what_is_not_known():
    said = json.loads(json.dumps(report().said()))
    assert said["rows"][0]["img/s"] == 120.0
    assert "allocated" not in said["rows"][1]
