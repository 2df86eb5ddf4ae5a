"""Finished adapters: those that runs wrote, and those that were put into the library."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from app.views import progress
from trainer.contract.errors import UserError
from trainer.contract.names import safe_name
from trainer.contract.rundir import RunDir, list_runs
from trainer.formats.header import read_header

REFUSED = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


@dataclass(frozen=True)
class Adapter:
    """One adapter file.

    Attributes:
        name: without the suffix.
        path: the file.
        run: the run it came from; None for a file from elsewhere.
        modified: when it was written, seconds since 1970.
    """

    name: str
    path: Path
    run: RunDir | None
    modified: float

    @property
    def link(self) -> str:
        """Address that downloads it."""
        return f"/adapters/{'runs' if self.run else 'library'}/{self.path.name}"


def adapters(home: Path) -> list[Adapter]:
    """Return every finished adapter, newest first."""
    found = [Adapter(run.name, run.adapter_file, run, 0) for run in list_runs(home) if run.adapter_file.exists()]
    found += [Adapter(path.stem, path, None, 0) for path in (home / "library").glob("*.safetensors")]
    dated = [Adapter(item.name, item.path, item.run, item.path.stat().st_mtime) for item in found]
    return sorted(dated, key=lambda item: -item.modified)


def choices(home: Path) -> list[tuple[str, str]]:
    """Return (name, path) for a list to choose from."""
    return [(item.name, str(item.path)) for item in adapters(home)]


def find(home: Path, path: str) -> Adapter:
    """Find an adapter of this home by its path. Raises UserError where there is none."""
    for item in adapters(home):
        if str(item.path) == path:
            return item
    raise UserError("there is no such adapter any more", path, "Choose another one in the Library tab.")


def cover(item: Adapter) -> Path | None:
    """Return the last sample picture of the run, or a picture beside the file."""
    if item.run:
        return next((path for path, _ in progress.samples(item.run)), None)
    beside = (item.path.with_suffix(suffix) for suffix in (".png", ".jpg", ".webp"))
    return next((path for path in beside if path.exists()), None)


def add(home: Path, upload: Path) -> Path:
    """Put a foreign adapter file into the library, looked at first.

    Raises:
        UserError: it is a pickle, no safetensors file, or a broken one.
    """
    suffix = upload.suffix.lower()
    if suffix in REFUSED:
        fix = "A pickle can run any program while it is opened. Ask its author for a .safetensors file."
        raise UserError(f"{suffix} files are pickles and are never opened here", upload.name, fix)
    if suffix != ".safetensors":
        raise UserError(
            f"'{suffix or 'no suffix'}' is not a kind of adapter file", upload.name, "Give a .safetensors file."
        )
    read_header(upload)
    base = safe_name(upload.stem)
    target = home / "library" / f"{base}.safetensors"
    number = 2
    while target.exists():
        target, number = home / "library" / f"{base}-{number}.safetensors", number + 1
    shutil.copyfile(upload, target.with_suffix(".tmp"))
    target.with_suffix(".tmp").replace(target)
    return target
