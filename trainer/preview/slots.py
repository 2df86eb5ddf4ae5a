"""Where adapters are kept that were read: on the device those used last, the others in host memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.adapters.read import AdapterFile, Shift, Update
from trainer.protocols import Target

GIB = 2**30


class Matrices(NamedTuple):
    """What an adapter adds, layer by layer."""

    updates: Mapping[Target, Update]
    shifts: Mapping[Target, Shift]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Matrices":
        """The same with every tensor changed, cast or copied."""
        return Matrices(
            {target: Update(change(one.down), change(one.up)) for target, one in self.updates.items()},
            {
                target: Shift(*(None if tensor is None else change(tensor) for tensor in (one.bias, one.weight)))
                for target, one in self.shifts.items()
            },
        )

    @property
    def size(self) -> int:
        """Bytes."""
        vectors = (tensor for one in self.shifts.values() for tensor in (one.bias, one.weight) if tensor is not None)
        return sum(tensor.nbytes for one in self.updates.values() for tensor in (one.down, one.up)) + sum(
            tensor.nbytes for tensor in vectors
        )


@dataclass
class Slot:
    """One adapter.

    Attributes:
        adapter: as it was read; its identity names the slot.
        host: its matrices in the working type, pinned where there is a GPU.
        there: the same on the device, None while they are only in host memory.
        size: bytes of either.
    """

    adapter: AdapterFile
    host: Matrices
    there: Matrices | None
    size: int


class Slots:
    """Least recently used adapters leave the device first; they come back without being read again.

    Args:
        device, dtype: of the model.
        room: bytes on the device; what is in use stays, whatever it takes.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, room: int = 4 * GIB) -> None:
        self.device, self.dtype, self.room = device, dtype, room
        self._slots: dict[int, Slot] = {}  # in the order of their last use

    def take(self, adapters: Sequence[AdapterFile]) -> list[Matrices]:
        """The matrices of these adapters on the device."""
        for adapter in adapters:
            slot = self._slots.pop(id(adapter), None) or self._made(adapter)
            self._slots[id(adapter)] = slot
        self._make_room({id(adapter) for adapter in adapters})
        return [self._brought(self._slots[id(adapter)]) for adapter in adapters]

    def forget(self, adapter: AdapterFile) -> None:
        """Give up an adapter's memory."""
        self._slots.pop(id(adapter), None)

    def held(self) -> tuple[int, int]:
        """Bytes on the device and of all slots."""
        slots = self._slots.values()
        return sum(slot.size for slot in slots if slot.there is not None), sum(slot.size for slot in slots)

    def _made(self, adapter: AdapterFile) -> Slot:
        pinned = self.device.type == "cuda"

        def ready(tensor: torch.Tensor) -> torch.Tensor:
            cast = tensor.to(self.dtype)
            return cast.pin_memory() if pinned else cast

        host = Matrices(adapter.updates, adapter.shifts).each(ready)
        return Slot(adapter, host, None, host.size)

    def _make_room(self, used: set[int]) -> None:
        needed = sum(slot.size for name, slot in self._slots.items() if name in used or slot.there is not None)
        for name, slot in self._slots.items():
            if needed <= self.room:
                return
            if name not in used and slot.there is not None:
                slot.there, needed = None, needed - slot.size

    def _brought(self, slot: Slot) -> Matrices:
        if slot.there is None:
            slot.there = slot.host.each(lambda tensor: tensor.to(self.device, non_blocking=True))
        return slot.there
