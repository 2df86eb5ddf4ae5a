"""The numbers of finished steps, read from the device without making it wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BEHIND = 3  # steps that stay queued while the host reads the ones before


class Line(NamedTuple):
    """What is told of a step."""

    step: int
    loss: float
    norm: float
    rates: Mapping[str, float]


@dataclass
class _Pending:
    step: int
    numbers: Tensor
    rates: Mapping[str, float]
    done: torch.cuda.Event | None


class Ledger:
    """Keeps what a step left on the device until somebody reads it.

    Reading an answer of the newest step would empty the device's queue, and it would idle until the host has gone on.
    So the last few are left for the next time, and the others are read through a stream that waits for them only.
    """

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._stream: torch.cuda.Stream | None = None

    def add(self, step: int, loss: Tensor, norm: Tensor, rates: Mapping[str, float]) -> None:
        """Note a step; `loss` and `norm` are scalars on the device, `rates` the learning rate of each part."""
        numbers, done = torch.stack((loss, norm)), None
        if numbers.is_cuda:
            done = torch.cuda.Event()
            done.record()
        self._pending.append(_Pending(step, numbers, rates, done))

    def read(self, everything: bool) -> list[Line]:
        """Return the steps that were not read yet, in order; without `everything` the newest may be left out."""
        count = len(self._pending)
        if not everything and self._pending and self._pending[-1].done:
            count = max(0, count - BEHIND)
        taken, self._pending = self._pending[:count], self._pending[count:]
        if not taken:
            return []
        numbers = self._fetch(taken)
        return [Line(one.step, loss, norm, one.rates) for one, (loss, norm) in zip(taken, numbers, strict=True)]

    def _fetch(self, taken: list[_Pending]) -> list[list[float]]:
        if taken[-1].done is None:
            return torch.stack([one.numbers for one in taken]).tolist()
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_event(taken[-1].done)
        with torch.cuda.stream(self._stream):
            return torch.stack([one.numbers for one in taken]).tolist()
