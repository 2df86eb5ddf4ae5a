"""The measured dry step before a run: what a step takes, what it leaves of the card's memory."""

import os
import platform
import time
from typing import Any, NamedTuple

import torch

from trainer.contract.card import CardProcess, card_processes
from trainer.contract.preflight import GIB, others
from trainer.protocols import Run

REPLAYS = 5  # timed together, so that the host prepares one while the device works on another, as in the run itself
LONG_SECONDS = 0.5  # a step that takes this long is timed once
SPARE = 300 * 2**20  # bytes of a card that are never really free: the display, the driver, other programs' windows


def seconds_per_step(run: Run, step: int, device: torch.device) -> float:
    """Learn from the real batch after `step` steps without keeping anything of it, and take the time.

    Only the gradient is changed, and it is zero again afterwards. On a GPU the first time also records the graph, as
    the run's first step would have done; so the time is that of later ones.
    """

    def timed(times: int) -> float:
        _wait(device)
        began = time.perf_counter()
        for _ in range(times):
            run.learn(step * run.accumulation)
        _wait(device)
        return (time.perf_counter() - began) / times

    run.zero()
    seconds = timed(1)
    if device.type == "cuda":
        seconds = timed(1)
        if seconds < LONG_SECONDS:
            seconds = timed(REPLAYS)
    run.zero()
    return seconds * run.accumulation


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Memory(NamedTuple):
    """Of the card, in bytes; all zero for a CPU.

    Attributes:
        held: what torch keeps at this moment.
        allocated, reserved, free, total, processes: see `Preflight`.
    """

    held: int = 0
    allocated: int = 0
    reserved: int = 0
    free: int = 0
    total: int = 0
    processes: tuple[CardProcess, ...] = ()

    def shown(self) -> dict[str, Any]:
        """The part of a `Preflight` that is about memory."""
        return {name: value for name, value in self._asdict().items() if name != "held"}

    def short(self, spills: bool) -> str:
        """A sentence where the card is as good as full, nothing otherwise.

        Args:
            spills: whether the driver moves what does not fit into host memory, many times slower, instead of refusing.
        """
        elsewhere = max(self.total - self.free - self.held, 0)  # by others, and by the driver for this process
        if self.reserved + elsewhere <= self.total - SPARE or not (spills or self.processes):
            return ""
        most = f"this run takes up to {self.reserved / GIB:.1f} of the card's {self.total / GIB:.1f} GiB"
        result = "the driver will move some of it into host memory, and steps may become many times slower"
        if not spills:
            result = "it may not fit for long"
        said = f"; also on the card: {others(self.processes)}. Close what is not needed" if self.processes else ""
        return f"{most}, and {elsewhere / GIB:.1f} GiB are taken by others: {result}{said}"


def memory(device: torch.device) -> Memory:
    """Look at the card now; all zero for a CPU."""
    if device.type != "cuda":
        return Memory()
    free, total = torch.cuda.mem_get_info(device)
    found = card_processes(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    known = found if isinstance(found, list) else ()
    processes = tuple(process for process in known if process.pid != os.getpid())
    most = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return Memory(torch.cuda.memory_reserved(device), *most, free, total, processes)


def driver_spills() -> bool:
    """Whether this is Windows, or Linux inside it: there a full card is not refused but moved to host memory."""
    return platform.system() == "Windows" or "microsoft" in platform.release().lower()
