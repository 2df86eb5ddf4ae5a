"""What this machine has, what it lacks, and what to do about it. Looks only; torch is not imported."""

import ast
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from trainer.contract.card import CardProcess, NoAnswer, card_processes
from trainer.contract.preflight import others
from trainer.pictures.decode import register_heif

State = Literal["ok", "warn", "bad"]

PACKAGES = ("diffusers", "transformers", "accelerate", "safetensors", "gradio", "pydantic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge", "firefox")
GIB = 2**30
SMALL_CARD_MIB = 6 * 1024 - 512  # a "6 GB" card reports a little less
# The oldest driver for each CUDA (CUDA Toolkit release notes, table "minimum required driver version").
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
_PIP = "python -m pip install"
_CPU_IS_ENOUGH = "Training runs on the processor: enough for the practice base, hours to days for Stable Diffusion."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        state: "ok", "warn" (works, but less well) or "bad" (something will not work).
        found: what was found.
        fix: what to do, "" where there is nothing to do.
    """

    name: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """What torch says about itself on disk: versions of CUDA and ROCm it was built with, None without."""

    version: str
    cuda: str | None
    hip: str | None


@dataclass(frozen=True)
class Card:
    """An NVIDIA card; `memory` in MiB."""

    name: str
    memory: int
    driver: str


def examine(home: Path) -> list[Finding]:
    """Look at this machine. `home` is the data folder; it need not be there yet."""
    build = torch_build()
    return [
        _python(),
        _torch(build),
        _graphics(build),
        *_card_users(card_processes()),
        _memory(psutil.virtual_memory().available, psutil.virtual_memory().total),
        _cores(),
        _disk(shutil.disk_usage(_existing(home)).free, home),
        _writable(home),
        *(_package(name) for name in PACKAGES),
        _heic(),
        _browser(),
    ]


def worst(findings: Sequence[Finding]) -> State:
    """Return the worst state among the findings, "ok" for none."""
    states: tuple[State, ...] = ("bad", "warn")
    return next((state for state in states if any(finding.state == state for finding in findings)), "ok")


def in_text(findings: Sequence[Finding], version: str) -> str:
    """The findings as plain text to send to somebody: nothing of the environment, no token, no name of a user."""
    lines = [f"LoRA Atelier {version}, {platform.platform()}"]
    for finding in findings:
        lines.append(f"[{finding.state}] {finding.name}: {finding.found}")
        lines += [f"       {finding.fix}"] if finding.fix else []
    return "\n".join(lines).replace(str(Path.home()), "~")


def torch_build() -> TorchBuild | None:
    """Read what torch is installed, without importing it: that takes seconds and hundreds of megabytes."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text("utf-8")
        values = _constants(text)
    except (OSError, SyntaxError, ValueError):
        return TorchBuild("of unknown version", None, None)
    return TorchBuild(values.get("__version__") or "of unknown version", values.get("cuda"), values.get("hip"))


def nvidia_cards() -> list[Card] | str:
    """Ask the driver for its cards. Returns what went wrong where it is there and does not answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return "nvidia-smi gave no answer in 15 seconds"
    except OSError as error:
        return f"nvidia-smi could not be started ({error.strerror or error})"
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0][:200] if lines else f"nvidia-smi ended with code {done.returncode}"
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [Card(row[0], int(row[1]) if row[1].isdigit() else 0, row[2]) for row in rows if len(row) == 3]


def judge_card(build: TorchBuild | None, cards: list[Card] | str, system: str) -> Finding:
    """Say whether the graphics card and torch fit together. `system` is as `platform.system()` has it."""
    name = "graphics card"
    if isinstance(cards, str):
        return Finding(
            name,
            "bad",
            f"NVIDIA driver: {cards}",
            "Restart the machine; if that does not help, install the NVIDIA driver again.",
        )
    if not cards:
        if build and build.hip:
            return Finding(name, "warn", f"torch is built for AMD (ROCm {build.hip})", "AMD cards are not tested here.")
        return Finding(name, "warn", "no NVIDIA card", _CPU_IS_ENOUGH)
    found = "; ".join(f"{card.name}, {card.memory / 1024:.0f} GiB, driver {card.driver}" for card in cards)
    if build is None:
        return Finding(name, "bad", found, _torch_line(system))
    if build.cuda is None:
        return Finding(name, "bad", f"NVIDIA card present ({found}), but this torch has no CUDA", _torch_line(system))
    needed = OLDEST_DRIVER.get(_major(build.cuda), 0)
    if 0 < _major(cards[0].driver) < needed:
        fix = f"Install an NVIDIA driver of version {needed} or later."
        return Finding(name, "bad", f"{found}: too old a driver for torch with CUDA {build.cuda}", fix)
    if max(card.memory for card in cards) < SMALL_CARD_MIB:
        return Finding(name, "warn", found, "Less than 6 GiB: keep to batch size 1 and the smaller resolutions.")
    return Finding(name, "ok", found)


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
        return Finding("Python", "bad", found, "Install Python 3.11 or later and make a new environment with it.")
    return Finding("Python", "ok", found)


def _torch(build: TorchBuild | None) -> Finding:
    if build is None:
        return Finding("torch", "bad", "not installed", _torch_line(platform.system()))
    kind = f"CUDA {build.cuda}" if build.cuda else f"ROCm {build.hip}" if build.hip else "processor only"
    return Finding("torch", "ok", f"{build.version}, {kind}")


def _graphics(build: TorchBuild | None) -> Finding:
    return judge_card(build, nvidia_cards(), platform.system())


def _card_users(found: list[CardProcess] | NoAnswer) -> list[Finding]:
    """Who holds the card's memory; nothing is said where there is no card."""
    name = "on the graphics card"
    if isinstance(found, NoAnswer):
        fix = f"{found.fix} Until then nothing warns of other programs that hold the card's memory."
        return [] if shutil.which("nvidia-smi") is None else [Finding(name, "warn", f"not known: {found.reason}", fix)]
    large = sum(process.bytes or 0 for process in found) > GIB
    fix = "Close what is not needed before training: its memory is missing there." if large else ""
    return [Finding(name, "warn" if large else "ok", others(found) or "no other program", fix)]


def _torch_line(system: str) -> str:
    if system == "Windows":  # there the ordinary package is for the processor only
        return (
            "Choose Windows, Pip and a CUDA version under 'Get started' on PyTorch's own site, "
            "and run the line it shows with --force-reinstall added."
        )
    if system == "Linux":  # there the ordinary package has CUDA; a "+cpu" one came from another index
        return f"Run: {_PIP} --force-reinstall torch"
    return f"Run: {_PIP} torch"


def _memory(available: int, total: int) -> Finding:
    found = f"{available / GIB:.1f} GiB free of {total / GIB:.1f}"
    if available < GIB:
        return Finding("memory", "bad", found, "Close other programs: the practice base alone needs about 1 GiB.")
    if available < 6 * GIB:
        return Finding(
            "memory",
            "warn",
            found,
            "Enough for the practice base; close other programs before training Stable Diffusion.",
        )
    return Finding("memory", "ok", found)


def _cores() -> Finding:
    # What this process may use, which in a container is less than what the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("processor", "warn", "1 core", "The page will be slow while a training runs on the processor.")
    return Finding("processor", "ok", f"{cores} cores")


def _disk(free: int, home: Path) -> Finding:
    found = f"{free / GIB:.1f} GiB free at {home}"
    move = "Free some space, or put the data elsewhere with --data-dir."
    if free < GIB:
        return Finding("disk", "bad", found, move)
    if free < 10 * GIB:
        return Finding("disk", "warn", found, f"A Stable Diffusion base alone takes 2 to 5 GiB. {move}")
    return Finding("disk", "ok", found)


def _writable(home: Path) -> Finding:
    place = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding("data folder", "ok", str(home))
    except OSError as error:
        found = f"{home} cannot be written ({error.strerror or error})"
        return Finding(
            "data folder", "bad", found, "Give yourself the right to write there, or choose another with --data-dir."
        )


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "bad", "not installed", f"Run: {_PIP} {name}")


def _heic() -> Finding:
    if register_heif():
        return Finding("HEIC pictures", "ok", "can be read")
    return Finding(
        "HEIC pictures", "warn", "cannot be read", f"Run: {_PIP} pi-heif (only needed for pictures from phones)"
    )


def _browser() -> Finding:
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found:
        return Finding("browser for tests", "ok", found)
    fix = "Only the browser tests need one. Run: python -m playwright install chromium"
    return Finding("browser for tests", "ok", "none on the PATH", fix)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), Path())


def _constants(source: str) -> dict[str, str | None]:
    """Read `name = "text"` and `name: type = None` from Python source, without running it."""
    values: dict[str, str | None] = {}
    for node in ast.parse(source).body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        value = node.value if isinstance(node, ast.AnnAssign | ast.Assign) else None
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            values[target.id] = value.value if isinstance(value.value, str) else None
    return values


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0
