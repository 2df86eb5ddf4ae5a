"""The adapter files of a run: one at every save, one at the end."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.adapters.adapter import Adapter
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.rundir import RunDir
from trainer.contract.shots import cover_of, sheet_at
from trainer.data.cache import Cache
from trainer.export.facts import Moment, adapter_facts
from trainer.export.kohya import DTYPES, Tensors, export_adapter
from trainer.export.plain import write_plain
from trainer.export.proof import write_report
from trainer.export.written import Told
from trainer.formats.header import read_header
from trainer.formats.metadata import renamed
from trainer.protocols import Family


@dataclass(frozen=True)
class AdapterFiles:
    """What is needed to write them.

    Attributes:
        adapter: with the matrices that the file is to hold.
        total: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.
    """

    run: RunDir
    config: RunConfig
    family: Family
    cache: Cache
    adapter: Adapter
    total: int
    steps_per_epoch: float

    def planned(self, step: int, every: int | None) -> str:
        """Say how many files there will be of saves after a step, every so many, and how large; "" for none."""
        count = (self.total - 1) // every - step // every if every and self.config.export.each_save else 0
        size = self.adapter.arena.master.numel() * DTYPES[self.config.export.dtype].itemsize / 2**20
        return f"every save is an adapter file too: {count} of {size:.1f} MiB to come" if count > 0 else ""

    def at_save(self, step: int) -> None:
        """Write `NAME-s000750.safetensors`; the same bytes whenever that step is reached again.

        It is written before the checkpoint of its step: a resume from that one never comes by this step again. What
        fails here costs the file, not the run.
        """
        if not self.config.export.each_save or step >= self.total:  # the end is a file of its own
            return
        path = self.run.step_file(step)
        try:
            self._write(path, step, self.adapter.tensors())
        except UserError as error:
            self.run.emit("notice", text=f"no adapter file of step {step}: {error}")
        else:
            self.run.emit("export", step=step, file=path.name, bytes=path.stat().st_size)

    def at_end(self, step: int) -> list[str]:
        """Write `NAME.safetensors` and what was measured of it; return a line for everything a person should know.

        Raises:
            UserError: the file's type cannot hold the numbers, or the disk is full.
        """
        path = self.run.adapter_file
        self._keep_earlier(path, step)
        tensors = self.adapter.tensors()
        digest = self._write(path, step, tensors)
        said = write_report(path, tensors, self.family.layout(), digest)
        self.run.emit("export", step=step, file=path.name, bytes=path.stat().st_size)
        return said

    def as_plain(self, told: Told) -> list[str]:
        """Write `NAME-lora.safetensors` where the method is another; see `write_plain`."""
        options = self.config.export
        return write_plain(self.run.adapter_file, self.adapter, self.family.layout(), options, told)

    def _write(self, path: Path, step: int, tensors: Tensors) -> str:
        cover = cover_of(sheet_at(self.run, step))
        picture = cover.file.read_bytes() if cover else None
        moment = Moment(path.stem, step, self.total, self.steps_per_epoch, picture)
        facts = adapter_facts(self.run, self.config, self.family, self.cache, moment)
        return export_adapter(path, tensors, self.family.layout(), facts, self.config.export.dtype)

    def _keep_earlier(self, path: Path, step: int) -> None:
        """A run that goes on longer has an end already: it stays, under the name of its step."""
        earlier = ""
        with suppress(UserError):  # none there, or none that could be kept
            earlier = read_header(path).metadata.get("ss_steps", "")
        if earlier.isdecimal() and int(earlier) != step:
            kept = self.run.step_file(int(earlier))
            if not kept.exists():
                write_atomic(kept, renamed(path.read_bytes(), kept.stem))
