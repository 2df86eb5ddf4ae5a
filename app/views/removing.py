"""Adapter files put into the trash, and brought back: `<home>/.trash/library/NAME.TIME/`, with what lay beside them."""

import re
import shutil
import time
from pathlib import Path

from app import owners
from app.views import labels
from app.views.adapters import COVERS, Adapter
from trainer.contract.errors import UserError
from trainer.contract.files import storage_error, write_atomic

PLACE = ".place"  # where the files were, as seen from the home
FROM = re.compile(r"library|runs/[^/\\]+/export")


def trash(home: Path) -> Path:
    """Folder of what was thrown away."""
    return home / ".trash" / "library"


def remove(home: Path, item: Adapter) -> Path:
    """Move a file to the trash; a run stays as it is otherwise. Returns where it lies now.

    Raises:
        UserError: it is another program's, or it cannot be moved.
    """
    if item.client:
        fix = f"Remove it in {item.client.title} or by hand."
        raise UserError(f"this file is {item.client.title}'s, and is only read here", item.name, fix)
    target = trash(home) / f"{item.name}.{int(time.time() * 1000)}"
    try:
        target.mkdir(parents=True)
        write_atomic(target / PLACE, item.path.parent.relative_to(home).as_posix())
        if whose := owners.owner(item.run.path if item.run else item.path):
            write_atomic(target / owners.FILE, whose)
        for path in (*_beside(item), item.path):
            shutil.move(path, target / path.name)
    except OSError as error:
        raise storage_error(error, item.path) from error
    return target


def _beside(item: Adapter) -> list[Path]:
    """What goes with a file; a run's notes are of all its files, and stay."""
    names = [item.path.with_suffix(suffix) for suffix in (*COVERS, ".json")]
    if not item.run:
        names += [item.path.with_suffix(labels.SUFFIX), item.path.with_name(f".{item.path.name}{owners.FILE}")]
    return [path for path in names if path.is_file()]


def restore(home: Path, trashed: Path) -> Path:
    """Bring back what `remove` put away; return the adapter file.

    Raises:
        UserError: it is not in the trash any more, or its name is taken.
    """
    owners.check(trashed)
    fix = "Look for it in the trash folder by hand."
    if trashed.parent != trash(home) or not trashed.is_dir() or trashed.is_symlink():
        raise UserError("this is not in the trash", trashed.name, fix)
    place = (trashed / PLACE).read_text("utf-8") if (trashed / PLACE).is_file() else ""
    folder = home / place
    if not FROM.fullmatch(place) or ".." in place or not folder.is_dir():
        raise UserError(f"the place it was in is gone ({place})", trashed.name, fix)
    files = [path for path in trashed.iterdir() if path.name not in (PLACE, owners.FILE)]
    taken = [path.name for path in files if (folder / path.name).exists()]
    adapter = next((folder / path.name for path in files if path.suffix == ".safetensors"), None)
    if taken or adapter is None:
        raise UserError(f"{taken[0] if taken else trashed.name} cannot be brought back", str(folder), fix)
    try:
        for path in files:
            shutil.move(path, folder / path.name)
        shutil.rmtree(trashed)
    except OSError as error:
        raise storage_error(error, trashed) from error
    return adapter
