"""Giving a file to a program: into its folder of LoRAs, with what lies beside it. Nothing there is ever replaced."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.clients.layouts import LAYOUTS, Client, folders
from trainer.contract.errors import UserError
from trainer.contract.files import storage_error
from trainer.contract.names import safe_name
from trainer.formats.named import copy_as

FULL = 1000  # numbers that are tried
SUFFIXES = (".safetensors", ".json", ".png")
Beside = Callable[[Path], Mapping[str, bytes]]  # file -> suffix -> content


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        file: where the adapter lies now.
        names: of all files that were written.
        linked: whether it is the same file under a second name, which takes no room.
        how: what to do in that program.
    """

    file: Path
    names: tuple[str, ...]
    linked: bool
    how: str


def send(client: Client, source: Path, beside: Beside, link: bool = False) -> Sent:
    """Put an adapter into a program's folder of LoRAs; where the name is taken, a number is added.

    Args:
        client: which program.
        source: the adapter file.
        beside: what goes with it, asked for when the file is there under its new name.
        link: a second name for the same file where the disk can do that; a copy otherwise.

    Raises:
        UserError: the folder cannot be written, or the file is not sound.
    """
    folder = folders(client).loras[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target, linked = _put(source, folder, link)
        others = beside(target)
        for suffix, content in others.items():
            _placed(target.with_suffix(suffix), partial(_write, content))
    except OSError as error:
        raise storage_error(error, folder) from error
    names = (target.name, *(target.with_suffix(suffix).name for suffix in others))
    how = LAYOUTS[client.kind].how.format(name=target.name, folder=folder)
    return Sent(target, names, linked, how)


def _put(source: Path, folder: Path, link: bool) -> tuple[Path, bool]:
    """The file under a free name; another one where somebody took that in the meantime. And whether it is a link."""
    while True:
        target = _free(folder, source.stem)
        try:
            if link and _linked(source, target):
                return target, True
            _placed(target, partial(copy_as, source))  # with the name inside that A1111 calls a LoRA by
        except FileExistsError:
            continue
        return target, False


def _write(content: bytes, target: Path) -> None:
    target.write_bytes(content)


def _free(folder: Path, stem: str) -> Path:
    """A name under which none of these files is there."""
    name = safe_name(stem)
    for number in range(1, FULL):
        path = folder / f"{name if number == 1 else f'{name}-{number}'}.safetensors"
        if not any(os.path.lexists(path.with_suffix(suffix)) for suffix in SUFFIXES):
            return path
    raise UserError(f"there are {FULL} files called '{name}'", str(folder), "Make room there first.")


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one that cannot
        return False
    return True


def _placed(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file as a whole, and only where there is none.

    Raises:
        OSError: there is one, or it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".atelier-", dir=target.parent) as place:
        temporary = Path(place) / target.name
        write(temporary)
        try:
            os.link(temporary, target)  # unlike a renaming, this never replaces
        except FileExistsError:
            raise
        except OSError:  # a disk without links
            with target.open("xb") as stream, temporary.open("rb") as content:
                shutil.copyfileobj(content, stream)
