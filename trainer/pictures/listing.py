"""What files a folder holds, in the order in which people count."""

import os
import re
from pathlib import Path, PurePath

from trainer.contract.errors import UserError
from trainer.pictures.decode import BEGINNING, FOREIGN_SUFFIXES, PICTURE_SUFFIXES, is_foreign


def list_files(folder: Path) -> list[Path]:
    """Return all files in `folder` and below it in natural order, without hidden ones.

    Raises:
        UserError: `folder` is missing or not a folder.
    """
    if not folder.exists():
        raise UserError("There is no such folder.", str(folder), "Check the spelling, or choose another folder.")
    if not folder.is_dir():
        raise UserError("This is a file, not a folder.", str(folder), f"Give the folder it is in: {folder.parent}")
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if visible(name)]
        files += [Path(place, name) for name in names if visible(name)]
    return sorted(filter(is_there, files), key=lambda path: natural_key(path.relative_to(folder)))


def foreign_files(folder: Path) -> list[Path]:
    """Return the files that a person takes for pictures, of kinds that nobody reads here; see `list_files`."""
    odd = (path for path in list_files(folder) if path.suffix.lower() in FOREIGN_SUFFIXES)
    return [path for path in odd if is_foreign(path.suffix, begin_file(path))]


def begin_file(path: Path) -> bytes:
    """The first bytes of a file, none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(BEGINNING)
    except OSError:
        return b""  # it is counted as no picture, and named


def is_there(path: Path) -> bool:
    """Whether a path is a file; a picture in a folder that is locked counts, and reading it will say why it fails."""
    try:
        return path.is_file()
    except OSError:
        return path.suffix.lower() in PICTURE_SUFFIXES


def visible(name: str) -> bool:
    """Return whether a file or folder name is neither hidden nor macOS's shadow folder in zips."""
    return not name.startswith(".") and name != "__MACOSX"


def natural_key(path: PurePath) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return a key that sorts paths as people count: folder by folder, numbers by value."""
    return tuple(_natural(part) for part in path.parts)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    pieces = (piece for piece in re.split(r"([0-9]+)", name) if piece)
    folded = (_value(piece) if piece[0] in "0123456789" else (1, 0, piece.casefold()) for piece in pieces)
    return (*folded, (2, 0, name))  # the name itself at last, so that "a" and "A" have one order


def _value(digits: str) -> tuple[int, int, str]:
    """What sorts numbers by value without making them: Python refuses to where there are thousands of digits."""
    bare = digits.lstrip("0")
    return 0, len(bare), bare
