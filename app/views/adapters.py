"""Adapter files: those that runs wrote, those that were put into the library, and those of other programs."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import owners
from app.clients import models
from app.clients.layouts import Client
from app.settings import load_settings
from app.views import headers, progress
from trainer.contract.errors import UserError
from trainer.contract.names import identity, safe_name
from trainer.contract.rundir import RunDir, list_runs
from trainer.contract.shots import cover_of, sheet_at
from trainer.formats.glance import ADAPTER
from trainer.formats.header import read_header
from trainer.formats.named import choose

COVERS = (".png", ".preview.png", ".jpg", ".jpeg", ".preview.jpg", ".webp")  # the forms of A1111, Forge and InvokeAI
REFUSED = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


@dataclass(frozen=True)
class Adapter:
    """One adapter file.

    Attributes:
        name: without the suffix.
        path: the file.
        run: the run it came from; None for a file from elsewhere.
        modified: when it was written, seconds since 1970.
        size: bytes.
        step: that it was saved at, for what a run wrote on its way; None for its end and for the chosen one.
        client: the program whose file it is; None for one of ours.
        inside: its name with the folders that it lies in, within its place.
        stamp: its version, with that of the `.json` beside it.
    """

    name: str
    path: Path
    run: RunDir | None
    modified: float
    size: int = 0
    step: int | None = None
    client: Client | None = None
    inside: str = ""
    stamp: headers.Stamp = (0.0, 0)

    @property
    def place(self) -> str:
        """Where it is: "runs", "library", or the kind of program."""
        return "runs" if self.run else self.client.kind if self.client else "library"

    @property
    def key(self) -> str:
        """What it is called in an address of the page."""
        return f"{self.place}/{self.inside or self.name}"

    @property
    def id(self) -> str:
        """16 hex digits that stand for it in the page."""
        return identity(str(self.path))[:16]

    @property
    def link(self) -> str:
        """Address that downloads it."""
        return self._link(self.path.name)

    @property
    def bundle_link(self) -> str:
        """Address that downloads it with everything that belongs to it."""
        return self._link(f"{self.path.stem}.zip")

    def _link(self, name: str) -> str:
        """Names of other programs' files come twice, in different folders."""
        return f"/adapters/{self.place}/{f'{self.id}/' if self.client else ''}{name}"

    @property
    def chosen(self) -> bool:
        """Whether it is the one that somebody chose of its run."""
        return self.run is not None and self.path == self.run.best_file


def link_in_run(file: Path) -> str:
    """Address that downloads a file that a run wrote."""
    return f"/adapters/runs/{file.name}"


def adapters(home: Path) -> list[Adapter]:
    """Every adapter file that one may see: the run that wrote one last comes first, its files behind each other."""
    groups = [list(_of_run(run)) for run in list_runs(home) if owners.visible(run.path)]
    own = [path for path in (home / "library").glob("*.safetensors") if owners.visible(path)]
    groups += [[_adapter(path)] for path in own]
    groups += [[item] for item in _of_clients(home)]
    dated = sorted((group for group in groups if group), key=lambda group: -max(item.modified for item in group))
    return [item for group in dated for item in group]


def mains(home: Path) -> list[Adapter]:
    """The same with one file of each run: the first of its group."""
    found: dict[Path, Adapter] = {}
    for item in adapters(home):
        found.setdefault(item.run.path if item.run else item.path, item)
    return list(found.values())


def siblings(item: Adapter) -> list[Adapter]:
    """All files of the run that a file is of: the chosen one, the end, the saves from the last to the first."""
    return list(_of_run(item.run)) if item.run else [item]


def _of_run(run: RunDir) -> Iterator[Adapter]:
    steps = {path: step for step, path in run.step_files().items()}
    for path in run.adapter_files():
        yield _adapter(path, run=run, step=steps.get(path))


def _of_clients(home: Path) -> Iterator[Adapter]:
    """What other programs have: a matter of whoever runs this machine."""
    if owners.bounded() is not None:
        return
    for client in load_settings(home).clients:
        for one in models.loras(client):
            item = _adapter(one.path, client=client, inside=one.inside)
            seen = headers.known(home, one.path, item.stamp)
            if seen.kind == ADAPTER if seen else client.kind != "invokeai":  # that one keeps all models together
                yield item


def _adapter(path: Path, **more: Any) -> Adapter:
    facts = path.stat()
    try:
        changed = max(facts.st_mtime, path.with_suffix(".json").stat().st_mtime)
    except OSError:
        changed = facts.st_mtime
    more = {"run": None, "stamp": (changed, facts.st_size), **more}
    return Adapter(path.stem, path, modified=facts.st_mtime, size=facts.st_size, **more)


def use(home: Path, path: str) -> Adapter:
    """Make a file the chosen one of its run: `NAME-best`.

    Raises:
        UserError: it is gone, or of no run.
    """
    item = find(home, path)
    if item.run is None:
        raise UserError(
            "this file is of no run here, so there is nothing to choose from", item.name, "Use it as it is."
        )
    return find(home, str(choose(item.run, item.path)))


def choices(home: Path) -> list[tuple[str, str]]:
    """Return (name, path) for a list to choose from."""
    return [(item.name, str(item.path)) for item in adapters(home)]


def find(home: Path, path: str) -> Adapter:
    """Find an adapter of this home by its path. Raises UserError where there is none."""
    for item in _near(home, Path(path)) or adapters(home):
        if str(item.path) == path:
            return item
    raise UserError("there is no such adapter any more", path, "Choose another one in the Library tab.")


def _near(home: Path, path: Path) -> list[Adapter]:
    """The file at a path of ours, with those of its run, without looking at all others; empty where it is elsewhere."""
    if path.parent == home / "library":
        there = path.suffix == ".safetensors" and path.is_file() and owners.visible(path)
        return [_adapter(path)] if there else []
    run = RunDir(path.parent.parent)
    ours = run.path.parent == home / "runs" and (run.path / "config.toml").is_file() and owners.visible(run.path)
    return list(_of_run(run)) if ours else []


def cover(item: Adapter) -> Path | None:
    """Return the sample picture of the run at that step, or a picture beside the file."""
    if item.run and item.step is not None:
        shot = cover_of(sheet_at(item.run, item.step))
        return shot.file if shot else None
    if item.run:
        return next((path for path, _ in progress.samples(item.run)), None)
    return next((path for suffix in COVERS if (path := beside(item, suffix))), None)


def beside(item: Adapter, suffix: str) -> Path | None:
    """A file beside one, of the same name; None where there is none, or where a link leads out of its folders."""
    path = item.path.with_suffix(suffix)
    allowed = models.tops(item.client) if item.client else (item.path.parent.resolve(),)
    return path if path.is_file() and models.within(path, allowed) else None


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
    owners.sign(target)
    return target
