"""Tensors kept on disk under the key of what they were made from: one file an entry, whole or not there."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.contract.files import storage_error, system_error, unfinished, with_room
from trainer.contract.latents import shelf_of
from trainer.contract.rundir import RunDir

Tensors = Mapping[str, Tensor]


def key_of(*parts: object) -> str:
    """The key of an entry: 64 hex digits of everything that decides what is in it."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class Store:
    """A shelf that all runs of a home share, and links to what one run uses of it.

    The links are what a resume reads: whatever is thrown away, changed or made anew on the shelf, a run goes on with
    what it began with. When it is done it gives them up, see `trainer.contract.latents.free`.

    Attributes:
        shelf: the shared folder.
        own: the run's.
        reused, made, damaged: entries that were found, made, and found broken.
    """

    shelf: Path
    own: Path
    reused: int = 0
    made: int = 0
    damaged: int = 0
    _seen: set[str] = field(default_factory=set)

    def get(self, key: str) -> Tensors | None:
        """Read an entry; None where there is none, or a damaged one, which is thrown away."""
        there = [path for path in (self._own(key), self._shared(key)) if path.exists()]
        for path in there:
            tensors = read_entry(path)
            if tensors is not None:
                self._keep(key, tensors)
                self.reused += key not in self._seen
                self._seen.add(key)
                return tensors
            path.unlink(missing_ok=True)
        self.damaged += bool(there)
        return None

    def read(self, key: str) -> Tensors:
        """Read an entry that `get` or `put` has seen, from the run's own folder, without looking at it again.

        Raises:
            FileNotFoundError: someone took it away.
        """
        return load_file(self._own(key))

    def put(self, key: str, tensors: Tensors) -> None:
        """Write an entry.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        write_entry(self._shared(key), tensors)
        self._keep(key, tensors)
        self.made += 1
        self._seen.add(key)

    def _keep(self, key: str, tensors: Tensors) -> None:
        """Link an entry into the run's folder, or write it there too where links cannot be made."""
        own, shared = self._own(key), self._shared(key)
        with suppress(FileNotFoundError):  # thrown away by another process just now
            os.utime(shared)  # so that it is not the next to be thrown away
        if own.exists():
            return
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            own.hardlink_to(shared)
        except OSError:  # another disk, or a file system without links
            write_entry(own, tensors)

    def _own(self, key: str) -> Path:
        return self.own / f"{key}.safetensors"

    def _shared(self, key: str) -> Path:
        return self.shelf / key[:2] / f"{key}.safetensors"


def store_of(run: RunDir) -> Store:
    """The store of a run: its home's shelf, or one in its own folder where it lies in no home."""
    home = run.path.parent.parent if run.path.parent.name == "runs" else run.path
    return Store(shelf_of(home), run.cache)


def write_entry(path: Path, tensors: Tensors) -> None:
    """Write tensors with a digest of them. Nothing is flushed: what a power cut leaves torn, the digest tells.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    with_room(lambda: _write(path, tensors))


def _write(path: Path, tensors: Tensors) -> None:
    temporary = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"digest": _sum(tensors)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error if isinstance(error, OSError) else system_error(str(error)), path) from error


def read_entry(path: Path) -> Tensors | None:
    """Read what `write_entry` wrote; None where it is not whole."""
    try:
        with safe_open(path, framework="pt") as stored:
            digest = (stored.metadata() or {}).get("digest")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError):
        return None
    return tensors if digest == _sum(tensors) else None


def _sum(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
