"""The memory ladder: which rung a run starts on, and which one it goes on with where the device's memory ran out.

A rung is chosen by an estimate before the UNet is loaded and proved by the run itself: where the device runs out of
memory, the run goes on from its last checkpoint one rung lower.
"""

import gc
from collections.abc import Collection
from dataclasses import replace

import torch

from trainer.contract.config import EngineSection
from trainer.contract.errors import UserError
from trainer.contract.ladder import RUNGS, choices, lower
from trainer.contract.rundir import RunDir
from trainer.device import Engine
from trainer.formats.needs import RESERVE, trained_bytes
from trainer.protocols import Family
from trainer.weights.nf4 import bitsandbytes, installed

GIB = 2**30


def free_bytes() -> int:
    """What this process may still take of the current GPU, in bytes."""
    free, total = torch.cuda.mem_get_info()
    allocated = torch.cuda.memory_allocated()
    free += torch.cuda.memory_reserved() - allocated
    return min(free, int(total * torch.cuda.get_per_process_memory_fraction()) - allocated)


def needed(family: Family, rung: str, latent_pixels: int, adapter: int) -> int:
    """What a rung takes once everything but the UNet and its adapter is on the device, in bytes; an estimate.

    Args:
        family: not loaded for this.
        rung: a row of the ladder.
        latent_pixels: of a whole batch.
        adapter: what it takes with its optimiser, in bytes.
    """
    row = RUNGS[rung]
    return int(family.unet_bytes(row.base) + adapter + family.kept_bytes(row.share) * latent_pixels) + RESERVE


def plan(run: RunDir, engine: Engine, family: Family, latent_pixels: int, trained: int) -> Engine:
    """Choose the rung that was left open, before the UNet is loaded. It is written down at once, so that a load which
    does not fit can be tried again with a lower one.

    Args:
        run: is told what was chosen and why.
        engine: with `rung` at `auto` where it is open.
        family: tells what it needs.
        latent_pixels: of a whole batch.
        trained: numbers in the adapter.

    Raises:
        UserError: the base shall be stored in a way that cannot be had here.
    """
    if engine.rung == "auto":
        engine = replace(engine, rung=_choose(run, engine, family, latent_pixels, trained))
    base = RUNGS[engine.rung].base
    if base == "nf4":
        bitsandbytes()
    if base == "streamed" and engine.graph:
        engine = replace(engine, graph=False)
        run.emit("notice", text="steps are run kernel by kernel, not as a CUDA graph: the weights come and go")
    run.write_engine({**run.engine(), **engine.choices()})
    return engine


def _choose(run: RunDir, engine: Engine, family: Family, latent_pixels: int, trained: int) -> str:
    names = choices(run.config().engine, _missing())
    if engine.device.type != "cuda":
        return names[0]
    free = free_bytes()
    adapter = trained * trained_bytes(run.config(), family.engine.dtype.itemsize)
    needs = {name: needed(family, name, latent_pixels, adapter) for name in names}
    name = next((name for name in names if needs[name] <= free), names[-1])
    run.emit("memory_plan", rung=name, needed=needs[name], free=free)
    if name != names[0]:
        first = needs[names[0]]
        reason = f"the fastest way would take {first / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free"
        run.emit("notice", text=f"{_words(name)}: {reason}")
    return name


def step_down(run: RunDir) -> None:
    """After the device ran out of memory: make the next start take a lower rung.

    Raises:
        UserError: there is no lower one.
    """
    gc.collect()  # graphs and their pools
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # that of the attempt that failed says nothing of the next
    options, frozen = run.config().engine, run.engine()
    rung = frozen.get("rung", list(RUNGS)[-1])
    name = lower(rung, options, _missing())
    if name is None:
        raise UserError(
            f"the GPU has too little memory for this run, even as lean as it can be ({RUNGS[rung].words})",
            "engine.memory",
            _advice(options),
        )
    run.write_engine({**frozen, "rung": name})
    run.emit("notice", text=f"out of GPU memory: going on so that {_words(name)}")


def _advice(options: EngineSection) -> str:
    smaller = "set training.batch_size, adapter.rank or dataset.resolution lower."
    if options.base != "auto":
        return f"Set engine.base=auto, so that the base may be stored in less; or {smaller}"
    return f"Close what else uses the card; or {smaller}"


def _missing() -> Collection[str]:
    return () if installed() else ("nf4",)


def _words(name: str) -> str:
    row = RUNGS[name]
    return row.words if row.base == "plain" else f"{row.words}, which changes the result a little"
