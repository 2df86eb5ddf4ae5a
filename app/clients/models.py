"""The model files of a program: found in its folders, never outside of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.clients.layouts import Client, folders

DEEPEST, MOST = 8, 20_000  # folders below each other, files of one program
FOLDER = "model_index.json"  # in a diffusers folder
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Found:
    """A model of a program.

    Attributes:
        client: whose it is.
        path: a .safetensors file or a diffusers folder.
        top: the folder it was found in.
    """

    client: Client
    path: Path
    top: Path

    @property
    def inside(self) -> str:
        """Its name with the folders it lies in, without suffix."""
        return self.path.relative_to(self.top).with_suffix("").as_posix()


def loras(client: Client) -> list[Found]:
    """Files in the folders of LoRAs."""
    return [one for one in _found(client, folders(client).loras) if not one.path.is_dir()]


def bases(client: Client) -> list[Found]:
    """Files and diffusers folders among the base models."""
    return _found(client, folders(client).bases)


def within(path: Path, tops: tuple[Path, ...]) -> bool:
    """Whether a file lies in one of these folders, wherever links lead."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        return False
    return any(real.is_relative_to(top) for top in tops)


def tops(client: Client) -> tuple[Path, ...]:
    """All folders that a program looks into for models, as they really are."""
    found = folders(client)
    return tuple(dict.fromkeys(one.resolve() for one in (*found.loras, *found.bases)))


def _found(client: Client, places: tuple[Path, ...]) -> list[Found]:
    allowed, seen, out = tops(client), set[Path](), list[Found]()
    for top in places:
        for path in _walk(top, allowed, DEEPEST):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                out.append(Found(client, path, top))
            if len(out) >= MOST:
                return out
    return out


def _walk(folder: Path, allowed: tuple[Path, ...], deep: int) -> Iterator[Path]:
    """Models in a folder and below. A link is followed where it stays within the folders of the program."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == FOLDER for entry in entries):
        yield folder
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or (entry.is_symlink() and not within(path, allowed)):
            continue
        if _is_folder(entry):
            if deep > 1:
                yield from _walk(path, allowed, deep - 1)
        elif entry.name.lower().endswith(SUFFIX):
            yield path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
