"""Who holds the memory of an NVIDIA card, asked of its driver (NVML, what nvidia-smi asks too). No torch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class CardProcess:
    """A process that is on a card.

    Attributes:
        pid: its number; inside a container the driver may tell one that nobody here knows.
        name: of its program.
        bytes: of the card's memory; None where the driver does not say, as on Windows.
    """

    pid: int
    name: str
    bytes: int | None


@dataclass(frozen=True)
class NoAnswer:
    """Why the driver could not be asked, and what to do about it."""

    reason: str
    fix: str


def card_processes(uuid: str = "") -> list[CardProcess] | NoAnswer:
    """Ask the driver which processes are on the cards, the largest first.

    Args:
        uuid: of one card, as the driver writes it (`GPU-...`); empty for all.

    Returns:
        The processes, each with its bytes on all these cards, or why the driver could not be asked.
    """
    try:
        import pynvml  # noqa: PLC0415 - only where it is asked for
    except ImportError:
        return NoAnswer("nvidia-ml-py is not installed", "Run: python -m pip install nvidia-ml-py.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _no_answer(error)
    try:
        cards = (
            [pynvml.nvmlDeviceGetHandleByUUID(uuid)]
            if uuid
            else [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        )
        asked = (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses)
        held = held_by(cards, asked)
    except pynvml.NVMLError as error:
        return _no_answer(error)
    finally:
        pynvml.nvmlShutdown()
    found = [CardProcess(pid, _name(pid), size) for pid, size in held.items()]
    return sorted(found, key=lambda process: -(process.bytes or 0))


def held_by(cards: Iterable[Any], asked: Sequence[Callable[[Any], Iterable[Any]]]) -> dict[int, int | None]:
    """Bytes of every process on all the cards together; None where no card says.

    Args:
        cards: NVML's handles.
        asked: NVML's lists of a card's processes; one that stands in several is told the same size there.
    """
    held: dict[int, int | None] = {}
    for card in cards:
        here = {found.pid: found.usedGpuMemory for ask in asked for found in ask(card)}
        for pid, size in here.items():
            before = held.get(pid)
            held[pid] = size if before is None else before + (size or 0)
    return held


def _no_answer(error: Any) -> NoAnswer:
    import pynvml  # noqa: PLC0415 - the error comes from it

    fix = "Update the NVIDIA driver, then restart the computer."
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        fix = "Restart the computer: the driver was updated, and the old one still runs. Else install the driver anew."
    return NoAnswer(f"the NVIDIA driver did not answer: {error}", fix)


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "another user's or container's process"
