"""A set as a zip that any other program takes: pictures under their own names, captions and masks beside them."""

import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic
from trainer.pictures.album import Entry, locate, open_album
from trainer.pictures.captions import legible
from trainer.pictures.shelves import MASK_ENDING

_RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))))
_STEM_BYTES = 120  # file systems stop at 255 bytes, some encrypted ones at 143


def export_pictures(folder: Path, target: Path) -> int:
    """Write every picture of a set into a zip, with a `.txt` (a line for each caption) and a mask beside it.

    Names are those that the user gave, folders included, made safe for every system and told apart by numbers.

    Args:
        folder: the set.
        target: the zip; replaced where it is there.

    Returns:
        The number of pictures.

    Raises:
        UserError: there is no such set, a picture of it is missing, or the zip cannot be written.
    """
    entries = open_album(folder).entries
    missing = [entry for entry in entries if not locate(folder, entry.file).is_file()]
    if missing:
        fix = "Bring it back to where it was, or take it out of the set."
        raise UserError(f"{missing[0].name} is not there any more.", str(locate(folder, missing[0].file)), fix)

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:  # pictures are packed already
            stems = safe_names((entry.name for entry in entries), MASK_ENDING)
            for stem, entry in zip(stems, entries, strict=True):
                _write(archive, folder, stem, entry)

    replace_atomic(target, write)
    return len(entries)


def safe_names(names: Iterable[str], beside: str = "") -> Iterator[str]:
    """Yield for each name, in order, a path without suffix that every system takes and no other of them has.

    Nor is one another with `beside` at its end, which is what lies beside that.
    """
    taken = set[str]()
    for name in names:
        path = PurePosixPath(name)
        place = "/".join(safe_stem(part) for part in path.parts[:-1] if part not in ("/", "..", "."))
        stem = safe_stem(path.stem)
        candidate, number = f"{place}/{stem}".lstrip("/"), 2
        while not taken.isdisjoint(_claims(candidate, beside)):
            candidate, number = f"{place}/{stem}-{number}".lstrip("/"), number + 1
        taken.update(_claims(candidate, beside))
        yield candidate


def _claims(path: str, beside: str) -> set[str]:
    return {path.casefold(), (path + beside).casefold()}


def safe_stem(wanted: str) -> str:
    """Return a file name (without suffix) that every file system takes."""
    whole = legible(unicodedata.normalize("NFC", wanted))
    kept = "".join(" " if ord(letter) < 32 or letter in '<>:"/\\|?*\x7f' else letter for letter in whole)
    short = " ".join(kept.split()).encode()[:_STEM_BYTES].decode(errors="ignore")
    stem = short.strip(". ") or "picture"
    return f"_{stem}" if stem.split(".")[0].casefold() in _RESERVED else stem


def _write(archive: zipfile.ZipFile, folder: Path, stem: str, entry: Entry) -> None:
    picture = locate(folder, entry.file)
    archive.write(picture, stem + picture.suffix.lower())
    if entry.captions:
        archive.writestr(f"{stem}.txt", "\n".join(entry.captions) + "\n")
    if entry.mask and locate(folder, entry.mask).is_file():
        archive.write(locate(folder, entry.mask), f"{stem}{MASK_ENDING}.png")
