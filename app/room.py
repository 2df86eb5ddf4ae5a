"""Whether there is room for what is sent: on the disk, and in what one may have."""

import os
import shutil
from pathlib import Path

from app import owners
from app.settings import load_settings
from trainer.contract.errors import UserError

SPARE = 512 * 2**20  # bytes that stay free on the disk
GIB = 2**30


def used(home: Path) -> int:
    """Bytes of sets, runs and library: of whoever looks, all of them where that has no bounds."""
    rooms = [home / name for name in ("datasets", "runs", "library")]
    return sum(_size(thing) for each in rooms if each.is_dir() for thing in each.iterdir() if owners.visible(thing))


def _size(thing: Path) -> int:
    if not thing.is_dir() or thing.is_symlink():
        return thing.lstat().st_size
    return sum(
        (Path(folder) / name).lstat().st_size for folder, _, names in os.walk(thing) for name in names
    )  # links are not followed: what they show lies elsewhere


def check(home: Path, coming: int) -> None:
    """See that so many bytes may come.

    Raises:
        UserError: the disk is full but for what has to stay free, or the quota of `settings.toml` would be passed.
    """
    free = shutil.disk_usage(home).free - SPARE
    if coming > free:
        problem = f"{coming / GIB:.1f} GiB do not fit: {max(0, free) / GIB:.1f} GiB are free."
        raise UserError(problem, str(home), "Make room, or add the folder where it lies, by its path.")
    quota = load_settings(home).quota_gib
    if quota and (have := used(home)) + coming > quota * GIB:
        problem = f"{coming / GIB:.1f} GiB do not fit: {have / GIB:.1f} of {quota:g} GiB are used."
        raise UserError(problem, "quota_gib in settings.toml", "Remove sets or runs that are not needed any more.")
