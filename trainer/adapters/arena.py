"""One flat piece of memory for every trained matrix, laid out group by group.

An fp32 master, a working copy in the base's number type (the master itself where that is fp32), and one gradient
buffer. One clip, one optimiser kernel and one all-reduce see everything; the modules see ordinary parameters that are
views of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ALIGN = 64  # elements: 128 bytes of bf16, so that every view can be read by wide loads


@dataclass(frozen=True)
class Slot:
    """A matrix to be placed.

    Attributes:
        name: unique, for example `unet.down_blocks.0....to_q.A`.
        group: learning-rate group, for example `unet.A`.
        shape: the parameter's shape.
    """

    name: str
    group: str
    shape: tuple[int, ...]


class Arena:
    """Flat storage for the parameters of an adapter.

    Attributes:
        master: [N] fp32.
        work: [N] in the base's number type; the same tensor as `master` where that is fp32.
        added: [N] like `work`: what the backward pass adds into.
        grad: [N] what clipping and the optimiser read: the same tensor as `added`, but fp32 where that is fp16, which
            holds gradients multiplied by the loss scale (see `trainer.optim.scaling.LossScale`).
        groups: group name -> slice of the above.
        members: group name -> its slots, by name.
        parameters: slot name -> trainable view of `work`, its `.grad` a view of `added`.
    """

    def __init__(self, slots: Sequence[Slot], device: torch.device, dtype: torch.dtype) -> None:
        ordered = sorted(slots, key=lambda slot: slot.group)  # stable: modules keep their order within a group
        self.groups: dict[str, slice] = {}
        self.members: dict[str, list[str]] = {}
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        end = 0
        for slot in ordered:
            start = self.groups[slot.group].start if slot.group in self.groups else end
            self._places[slot.name] = (end, slot.shape)
            self.members.setdefault(slot.group, []).append(slot.name)
            end += -(-torch.Size(slot.shape).numel() // ALIGN) * ALIGN
            self.groups[slot.group] = slice(start, end)
        self.master = torch.zeros(end, device=device)
        self.work = self.master if dtype == torch.float32 else self.master.to(dtype)
        self.added = torch.zeros_like(self.work)
        self.grad = torch.zeros_like(self.master) if dtype == torch.float16 else self.added
        self.parameters = {name: self._parameter(name) for name in self._places}

    def view(self, flat: Tensor, name: str) -> Tensor:
        """Return the part of any [N] tensor that belongs to a slot, in the slot's shape."""
        start, shape = self._places[name]
        return flat[start : start + torch.Size(shape).numel()].view(shape)

    def _parameter(self, name: str) -> nn.Parameter:
        parameter = nn.Parameter(self.view(self.work, name))
        parameter.grad = self.view(self.added, name)  # autograd adds into it instead of making its own
        return parameter

    def publish(self) -> None:
        """Copy the master into the working copy, after it was changed."""
        if self.work is not self.master:
            self.work.copy_(self.master)

    @contextmanager
    def showing(self, flat: Tensor | None) -> Iterator[None]:
        """Within this, the modules compute with other matrices, [N] like the master; None changes nothing.

        Afterwards everything is as it was, bit for bit.
        """
        if flat is None:
            yield
            return
        kept = self.master.clone()
        try:
            self.master.copy_(flat)
            self.publish()
            yield
        finally:
            self.master.copy_(kept)
            self.publish()
