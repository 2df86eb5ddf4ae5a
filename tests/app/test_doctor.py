"""The doctor: on this machine, and on machines made up of small real files."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from app import doctor
from app.doctor import Card, Finding, TorchBuild, examine, judge_card, nvidia_cards, torch_build, worst
from trainer.contract.card import CardProcess, NoAnswer

CPU = TorchBuild("2.13.0+cpu", None, None)
CUDA = TorchBuild("2.13.0", "13.0", None)
CARD = Card("NVIDIA GeForce RTX 4090", 24564, "580.65")


def fake_torch(folder, text):
    package = folder / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "version.py").write_text(text)


def fake_smi(folder, script):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_this_machine_is_examined_without_importing_torch(tmp_path):
    code = (
        "import sys, pathlib; from app.doctor import examine; "
        "found = examine(pathlib.Path(sys.argv[1])); "
        "assert not {'torch', 'diffusers', 'transformers', 'gradio'} & set(sys.modules); "
        "print(len(found))"
    )
    home = tmp_path / "not" / "there"
    root = Path(doctor.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(examine(home))
    assert not home.exists()


def test_what_is_installed_here_is_found(tmp_path):
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert found["Python"].state == "ok"
    assert found["torch"].found.startswith(version("torch").split("+")[0])
    assert found["gradio"].found == version("gradio")
    assert found["HEIC pictures"].state == "ok"
    assert found["data folder"] == Finding("data folder", "ok", str(tmp_path))
    assert all(finding.fix for finding in found.values() if finding.state != "ok")


@pytest.mark.parametrize(
    ("text", "build"),
    [
        (
            "from typing import Optional\n__version__ = '2.9.1+cu128'\n"
            "cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n",
            TorchBuild("2.9.1+cu128", "12.8", None),
        ),
        ("__version__ = '2.1.0'\ncuda = None\nhip = '6.1'\n", TorchBuild("2.1.0", None, "6.1")),
        ("not python (", TorchBuild("of unknown version", None, None)),
    ],
)
def test_the_build_of_torch_is_read_from_its_file(tmp_path, monkeypatch, text, build):
    fake_torch(tmp_path, text)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch_build() == build


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("script", "cards"),
    [
        ("echo 'NVIDIA GeForce RTX 4090, 24564, 580.65'", [CARD]),
        ("echo 'A, 1, 2'; echo 'GB10, [N/A], 580.1'", [Card("A", 1, "2"), Card("GB10", 0, "580.1")]),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "Failed to initialize NVML: Driver/library version mismatch",
        ),
        ("exit 9", "nvidia-smi ended with code 9"),
    ],
)
def test_the_driver_is_asked(tmp_path, monkeypatch, script, cards):
    fake_smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_cards() == cards


def test_no_driver_means_no_card(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_cards() == []


@pytest.mark.parametrize(
    ("build", "cards", "system", "state", "words"),
    [
        (CUDA, [CARD], "Linux", "ok", "RTX 4090, 24 GiB"),
        (CPU, [], "Linux", "warn", "processor"),
        (CPU, [CARD], "Linux", "bad", "python -m pip install --force-reinstall torch"),
        (CPU, [CARD], "Windows", "bad", "Choose Windows, Pip and a CUDA version"),
        (None, [CARD], "Linux", "bad", "pip install"),
        (CUDA, "no answer", "Linux", "bad", "no answer"),
        (CUDA, [Card("Old", 8192, "535.1")], "Linux", "bad", "version 580 or later"),
        (CUDA, [Card("Small", 4096, "580.1")], "Linux", "warn", "batch size 1"),
        (TorchBuild("2", None, "6.1"), [], "Linux", "warn", "ROCm 6.1"),
    ],
)
def test_card_and_torch_must_fit(build, cards, system, state, words):
    finding = judge_card(build, cards, system)
    assert finding.state == state
    assert words in f"{finding.found} {finding.fix}"


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        ([], "ok", "no other program"),
        ([CardProcess(7, "Xorg", 200 << 20)], "ok", "Xorg (0.2 GiB)"),
        ([CardProcess(8, "game", 5 << 30), CardProcess(9, "dwm.exe", None)], "warn", "game (5.0 GiB), dwm.exe"),
    ],
)
def test_who_holds_the_card_is_named(found, state, words):
    (finding,) = doctor._card_users(found)
    assert finding.state == state and words in finding.found and bool(finding.fix) == (state != "ok")


def test_a_driver_that_says_nothing_is_told_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._card_users(NoAnswer("no answer", "Do this.")) == []
    fake_smi(tmp_path, "exit 9")
    (finding,) = doctor._card_users(NoAnswer("no answer", "Do this."))
    assert finding.state == "warn" and "no answer" in finding.found and finding.fix.startswith("Do this.")


@pytest.mark.parametrize(("gib", "states"), [(0.5, ("bad", "bad")), (3, ("warn", "warn")), (50, ("ok", "ok"))])
def test_memory_and_disk(gib, states):
    size = int(gib * doctor.GIB)
    assert (doctor._memory(size, 2 * size).state, doctor._disk(size, Path("x")).state) == states


@pytest.mark.skipif(sys.platform != "linux", reason="/proc stands in for a place where even root may not write")
def test_a_place_that_cannot_be_written_is_bad():
    finding = doctor._writable(Path("/proc/nowhere"))
    assert finding.state == "bad"
    assert "--data-dir" in finding.fix


def test_a_missing_package_comes_with_its_pip_line():
    assert doctor._package("no-such-package-here") == Finding(
        "no-such-package-here", "bad", "not installed", "Run: python -m pip install no-such-package-here"
    )


def test_worst():
    ok, warn, bad = (Finding("x", state, "") for state in ("ok", "warn", "bad"))
    assert [worst(findings) for findings in ([], [ok], [ok, warn], [bad, warn, ok])] == ["ok", "ok", "warn", "bad"]
