"""Who holds the memory of an NVIDIA card, asked of its driver (NVML, what nvidia-smi asks too). No torch."""

from dataclasses import dataclass

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


def card_processes(uuid: str = "") -> list[CardProcess] | str:
    """Ask the driver which processes are on the cards, the largest first.

    Args:
        uuid: of one card, as the driver writes it (`GPU-...`); empty for all.

    Returns:
        The processes, or why the driver could not be asked.
    """
    try:
        import pynvml  # noqa: PLC0415 - only where it is asked for
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"the NVIDIA driver could not be asked: {error}"
    try:
        cards = (
            [pynvml.nvmlDeviceGetHandleByUUID(uuid)]
            if uuid
            else [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        )
        asked = (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses)
        held = {found.pid: found.usedGpuMemory for card in cards for ask in asked for found in ask(card)}
    except pynvml.NVMLError as error:
        return f"the NVIDIA driver did not answer: {error}"
    finally:
        pynvml.nvmlShutdown()
    found = [CardProcess(pid, _name(pid), size) for pid, size in held.items()]
    return sorted(found, key=lambda process: -(process.bytes or 0))


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "another user's or container's process"
