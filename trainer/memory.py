"""The memory ladder: how much is computed again in the backward pass, so that a run fits the card.

A rung is chosen by an estimate and proved by the run itself: where the device runs out of memory, the run goes on from
its last checkpoint one rung lower.
"""

import gc
from dataclasses import replace

import torch

from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir
from trainer.device import Engine
from trainer.protocols import Family

RUNGS = ("none", "half", "full")  # blocks that are computed again, from the fastest to the leanest
RESERVE = 600 * 2**20  # bytes for workspaces, the optimiser's intermediate results and what the allocator cannot use
GIB = 2**30


def free_bytes() -> int:
    """What this process may still take of the current GPU, in bytes."""
    free, total = torch.cuda.mem_get_info()
    allocated = torch.cuda.memory_allocated()
    free += torch.cuda.memory_reserved() - allocated
    return min(free, int(total * torch.cuda.get_per_process_memory_fraction()) - allocated)


def plan(run: RunDir, engine: Engine, family: Family, latent_pixels: int) -> Engine:
    """Choose the rung that was left open, once everything but the activations is on the device.

    Args:
        run: is told what was chosen and why.
        engine: with `rung` at `auto` where it is open.
        family: knows how much its UNet keeps.
        latent_pixels: of a whole batch.
    """
    if engine.rung != "auto":
        return engine
    if engine.device.type != "cuda":
        return replace(engine, rung=RUNGS[0])
    free = free_bytes()
    needs = {rung: int(family.kept_bytes(rung) * latent_pixels) + RESERVE for rung in RUNGS}
    rung = next((rung for rung, need in needs.items() if need <= free), RUNGS[-1])
    run.emit("memory_plan", rung=rung, needed=needs[rung], free=free)
    if rung != RUNGS[0]:
        reason = f"keeping everything would take {needs[RUNGS[0]] / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free"
        run.emit(
            "notice", text=f"{_words(rung)} of the UNet's blocks are computed again in the backward pass: {reason}"
        )
    return replace(engine, rung=rung)


def step_down(run: RunDir) -> None:
    """After the device ran out of memory: make the next start take a lower rung.

    Raises:
        UserError: there is no lower one.
    """
    gc.collect()  # graphs and their pools
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    choices = run.engine()
    lower = RUNGS[RUNGS.index(choices.get("rung", RUNGS[-1])) + 1 :]
    if not lower:
        raise UserError(
            "the GPU has too little memory for this run, even with every block computed again",
            "engine.memory",
            "Close what else uses the card; or set training.batch_size, adapter.rank or dataset.resolution lower.",
        )
    run.write_engine({**choices, "rung": lower[0]})
    run.emit("notice", text=f"out of GPU memory: going on with {_words(lower[0])} of the blocks computed again")


def _words(rung: str) -> str:
    return {"none": "none", "half": "half", "full": "all"}[rung]
