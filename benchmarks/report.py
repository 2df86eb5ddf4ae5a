"""Rows and yardsticks as a section of RESULTS.md."""

import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.cases import MODELS
from benchmarks.processes import ROOT
from benchmarks.row import Row

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("torch", "triton", "diffusers", "transformers", "peft", "nvidia-cudnn-cu13")


@dataclass
class Report:
    """Everything that one call measured.

    Attributes:
        command: as it was typed.
        facts: card, driver, versions, commit.
        rows: in the order in which they were measured.
        yardsticks: as `benchmarks.yardsticks` gives them, by name.
    """

    command: str
    facts: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    yardsticks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def said(self) -> dict[str, Any]:
        """As JSON."""
        rows, yardsticks = [row.said() for row in self.rows], list(self.yardsticks.values())
        return {"command": self.command, **self.facts, "rows": rows, "yardsticks": yardsticks}

    def ratio(self, row: Row, others: Sequence[float | None]) -> float | None:
        """How many times as fast a row of ours is as the best of the others."""
        best = max((other for other in others if other), default=None)
        return row.speed / best if row.ours and row.speed and best else None

    def card(self, row: Row) -> float | None:
        """The share of the card's matrix rate that the model's own arithmetic is."""
        rate, model = self.yardsticks.get("matrix", {}).get("TFLOP/s"), MODELS[row.plain.split(":")[0]]
        return row.speed * model.tflop / rate if rate and model.tflop and row.speed else None

    def bare(self, row: Row, op: str) -> list[float | None]:
        """Pictures a second of a bare step of the same model and batch."""
        found = [said for name, said in self.yardsticks.items() if name.startswith(f"{row.plain}:{op}:")]
        return [said["it/s"] * row.batch if "it/s" in said else None for said in found]

    def peer(self, row: Row, name: str) -> list[float | None]:
        """Pictures a second of a peer on the same model and batch, in each of its settings."""
        return [one.speed for one in self.rows if not one.ours and one.plain == row.plain and one.case.startswith(name)]

    def plain(self, row: Row) -> list[float | None]:
        """Pictures a second of the case without its extra words."""
        return [one.speed for one in self.rows if one.case == row.plain != row.case]


def number(digits: int, unit: str = "") -> Callable[[float | None], str]:
    """How a figure is written; empty where there is none."""
    return lambda value: "" if value is None else f"{value:.{digits}f}{unit}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "" if value is None else f"{value:.1%}"


# Heading, and what stands under it. A column that is empty in every row is left out.
COLUMNS: tuple[tuple[str, Callable[[Report, Row], str]], ...] = (
    ("case", lambda _, row: row.case),
    ("it/s", lambda _, row: number(2)(row.rate)),
    ("img/s", lambda _, row: number(2)(row.speed)),
    ("of the card", lambda report, row: share(report.card(row))),
    ("of the bare step", lambda report, row: number(2)(report.ratio(row, report.bare(row, "lean")))),
    ("x PEFT", lambda report, row: number(1)(report.ratio(row, report.bare(row, "peft")))),
    ("x kohya", lambda report, row: number(1)(report.ratio(row, report.peer(row, "kohya")))),
    ("x diffusers", lambda report, row: number(1)(report.ratio(row, report.peer(row, "diffusers")))),
    ("x plain case", lambda report, row: number(2)(report.ratio(row, report.plain(row)))),
    ("GiB", lambda _, row: number(2)(row.allocated)),
    ("reserved", lambda _, row: number(2)(row.reserved)),
    ("first step, s", lambda _, row: number(1)(row.first_step)),
    ("whole run, s", lambda _, row: number(1)(row.whole)),
    ("rung", lambda _, row: row.rung),
    ("exit", lambda _, row: "" if row.code == 0 else str(row.code)),
    ("note", lambda _, row: short(row.note)),
)


def short(note: str) -> str:
    """A note that cannot break the table."""
    return re.sub(r"[|\s]+", " ", note)[:120]


def table(report: Report) -> str:
    """The rows as a Markdown table."""
    cells = [[write(report, row) for _, write in COLUMNS] for row in report.rows]
    kept = [index for index in range(len(COLUMNS)) if any(line[index] for line in cells)]
    lines = [[COLUMNS[index][0] for index in kept], ["---"] * len(kept)]
    lines += [[line[index] for index in kept] for line in cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def yardstick_table(yardsticks: Mapping[str, dict[str, Any]]) -> str:
    """The bare steps as a Markdown table; empty without any."""
    bare = {name: said for name, said in yardsticks.items() if name != "matrix"}
    if not bare:
        return ""
    lines = ["| bare step | it/s | GiB |", "|---|---|---|"]
    lines += [
        f"| {name} | {said.get('it/s', said.get('failed'))} | {said.get('GiB', '')} |" for name, said in bare.items()
    ]
    return "\n".join(lines)


def phase_lines(rows: Sequence[Row]) -> str:
    """Where the time to the first step went, a line a case."""
    lines = []
    for row in rows:
        parts = [f"{name} {seconds:.1f}" for name, seconds in row.phases.items() if seconds >= 0.05]
        lines += [f"- {row.case}, seconds to the first step: {', '.join(parts)}"] if parts else []
    return "\n".join(lines)


def section(report: Report) -> str:
    """The whole section, newest figures of one call."""
    facts = report.facts
    matrix = report.yardsticks.get("matrix", {}).get("TFLOP/s")
    card = f"{facts['card']}" + (f", bf16 matrix products at {matrix:.0f} TFLOP/s in this call" if matrix else "")
    about = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in ("card", "date"))
    parts = [f"## {facts['date']}, {facts['card']}", f"    {report.command}", f"{card}; {about}.", table(report)]
    parts += [yardstick_table(report.yardsticks), phase_lines(report.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def insert(text: str, new: str) -> str:
    """RESULTS.md with a section before all others."""
    head, mark, rest = text.partition("\n## ")
    return f"{head.rstrip()}\n\n{new.rstrip()}\n" + (f"\n## {rest}" if mark else "")


def facts(commit: str) -> dict[str, str]:
    """Date, card, driver, versions and commit of this call."""
    found = {"date": time.strftime("%Y-%m-%d"), **card()}
    for name in PACKAGES:
        try:
            found[name.removeprefix("nvidia-").removesuffix("-cu13")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["Python"] = platform.python_version()
    return {**found, "commit": commit or head()}


def card() -> dict[str, str]:
    """Name and driver of the first card, asked without touching it; the processor where there is none."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            name, driver = done.stdout.splitlines()[0].split(", ")
            return {"card": name, "driver": driver}
    return {"card": f"CPU ({platform.machine()})"}


def head() -> str:
    """The commit that is checked out, `unknown` outside a checkout."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
