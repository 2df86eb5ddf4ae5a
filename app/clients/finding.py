"""Programs that are on this machine: where they usually are, and where one runs right now."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

import psutil

from app.clients.layouts import Client, recognise

SCRIPTS = ("webui.py", "launch.py", "main.py", "launch_utils.py", "invokeai-web")
SHELVES = ("", "AI", "ai", "apps", "git", "src", "code", "projects", "sd", "stable-diffusion", "Documents", "Downloads",
           "Desktop", "Programs", "pinokio/api", "StabilityMatrix/Packages", "StabilityMatrix/Data/Packages",
           "Data/Packages")  # fmt: skip
SERVERS = ("/workspace", "/opt", "/srv", "/content", "/mnt", "/data")
MOST = 200  # folders that are looked into at each place


def find() -> list[Client]:
    """Look for programs: those that run first, then the usual places. Takes a part of a second."""
    found: dict[str, Client] = {}
    for folder in (*_running(), *_usual()):
        with suppress(OSError):  # a place that may not be looked into
            client = recognise(folder)
            if client is not None:
                found.setdefault(str(Path(client.folder).resolve()), client)
    return list(found.values())


def _running() -> Iterator[Path]:
    """Folders that the running programs were started in, or whose scripts they are."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = [word for word in process.info["cmdline"] or () if Path(word).name in SCRIPTS]
        cwd = process.info["cwd"]
        if cwd and words:
            yield from (Path(cwd), *(Path(cwd, word).parent for word in words), *_root_option(process.info["cmdline"]))


def _root_option(words: list[str]) -> Iterator[Path]:
    """InvokeAI's `--root`, ComfyUI's `--base-directory`."""
    for option, value in pairwise(words):
        if option in ("--root", "--base-directory"):
            yield Path(value)


def _usual() -> Iterator[Path]:
    named = os.environ.get("INVOKEAI_ROOT")
    if named:
        yield Path(named)
    for place in _places():
        with suppress(OSError):
            yield from islice((one for one in sorted(place.iterdir()) if one.is_dir()), MOST)


def _places() -> Iterator[Path]:
    home = Path.home()
    yield from (home / shelf for shelf in SHELVES)
    if sys.platform == "win32":
        drives = [Path(f"{letter}:/") for letter in "CDEFG"]
        yield from (drive / shelf for drive in drives for shelf in SHELVES)
    else:
        yield from map(Path, SERVERS)
