"""NVIDIA cards, and who holds their memory, asked of the driver (NVML, what nvidia-smi asks too). No torch."""

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")


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


@dataclass(frozen=True)
class CardMemory:
    """A card and its memory, in bytes."""

    name: str
    free: int
    total: int


def cards() -> tuple[str, ...]:
    """The cards that may be used here, by the driver's names (`GPU-...`); empty where no driver answers.

    `CUDA_VISIBLE_DEVICES` is read as CUDA reads it: numbers or names, cut off at the first that is neither.
    """
    found = _asked(lambda nvml: tuple(str(nvml.nvmlDeviceGetUUID(card)) for card in _handles(nvml)))
    known = () if isinstance(found, NoAnswer) else found
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not known or wanted is None:
        return known
    named = (_named(word.strip(), known) for word in wanted.split(","))
    return tuple(itertools.takewhile(bool, named))


def _named(word: str, known: Sequence[str]) -> str:
    """The card that a word of CUDA_VISIBLE_DEVICES means; "" for none. A part of a card (MIG) keeps its own name."""
    if word.isdigit():
        return known[int(word)] if int(word) < len(known) else ""
    if word.startswith("MIG-"):
        return word
    return next((name for name in known if word and name.startswith(word)), "")


def card_lock(card: str) -> Path:
    """The file that whoever trains on a card holds a lock on, whatever data folder it works in."""
    return Path(tempfile.gettempdir()) / f"lora-atelier-{re.sub('[^A-Za-z0-9-]', '-', card)}.lock"


def first_card() -> CardMemory | None:
    """Ask the driver for the card that a training takes; None where there is none that answers."""

    def look(nvml: Any) -> CardMemory:
        card = nvml.nvmlDeviceGetHandleByIndex(0)
        name, found = nvml.nvmlDeviceGetName(card), nvml.nvmlDeviceGetMemoryInfo(card)
        return CardMemory(str(name), int(found.free), int(found.total))

    found = _asked(look)
    return None if isinstance(found, NoAnswer) else found


def card_processes(uuid: str = "") -> list[CardProcess] | NoAnswer:
    """Ask the driver which processes are on the cards, the largest first.

    Args:
        uuid: of one card, as the driver writes it (`GPU-...`); empty for all.

    Returns:
        The processes, each with its bytes on all these cards, or why the driver could not be asked.
    """

    def look(nvml: Any) -> dict[int, int | None]:
        asked = (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses)
        return held_by([nvml.nvmlDeviceGetHandleByUUID(uuid)] if uuid else _handles(nvml), asked)

    held = _asked(look)
    if isinstance(held, NoAnswer):
        return held
    found = [CardProcess(pid, _name(pid), size) for pid, size in held.items()]
    return sorted(found, key=lambda process: -(process.bytes or 0))


def _asked(question: Callable[[Any], T]) -> T | NoAnswer:
    """Put a question to the driver, or say why that cannot be."""
    try:
        import pynvml  # noqa: PLC0415 - only where it is asked for
    except ImportError:
        return NoAnswer("nvidia-ml-py is not installed", "Run: python -m pip install nvidia-ml-py.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _no_answer(error)
    try:
        return question(pynvml)
    except pynvml.NVMLError as error:
        return _no_answer(error)
    finally:
        pynvml.nvmlShutdown()


def _handles(nvml: Any) -> list[Any]:
    return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]


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
