"""Any mix of adapters, a strength for every picture of a batch, over base weights that are never touched.

Adapters stand in slots: loading one more, or taking one out, leaves the others where they are. A layer's own answer is
computed as ever, and what each adapter adds is computed for those pictures of the batch that have it at a strength
other than 0. So a picture at strength 0 is the base's bit for bit, whatever the adapter holds and whatever is drawn
beside it, and an adapter that no picture uses takes no time. A new strength is one small write.

Shapes: B batch, K adapters, G groups of layers (`trainer.formats.block_weights`), R rank, I and O features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.lora import geometry
from trainer.adapters.read import AdapterFile, Update
from trainer.formats.block_weights import Layout
from trainer.preview.norms import Vectors, beside, normed
from trainer.preview.slots import Matrices, Slots
from trainer.preview.stacks import Stack
from trainer.protocols import Target

Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Tensor], Tensor]
Numbers = Sequence[Sequence[float | Sequence[float]]]  # [B][K], of all groups or of each


@dataclass(frozen=True)
class Share:
    """What one adapter does in one group of layers, to pictures of the batch that stand side by side.

    A slice, so that what is read and changed are views: to gather and scatter the pictures cost a third of a pass.

    Attributes:
        held: its matrices on the device.
        rows: the n pictures.
        scale: [n], or [1] for any number of pictures, fp32: a view of the table's numbers.
    """

    held: Matrices
    rows: slice
    scale: Tensor


class Table:
    """Strengths [B, K, G] on the device, without those that are 0."""

    def __init__(self) -> None:
        self.shares: list[list[Share]] = []
        self._pattern: tuple[int, Tensor] | None = None
        self._numbers = torch.zeros(0)

    def write(self, numbers: Tensor, held: Sequence[Matrices], device: torch.device, loads: int) -> None:
        """Take new strengths, [B, K, G] on the CPU; `loads` counts how often other adapters were loaded."""
        numbers = numbers.permute(2, 1, 0).contiguous()
        active = numbers != 0
        known = self._pattern
        if known and known[0] == loads and known[1].shape == active.shape and torch.equal(known[1], active):
            self._numbers.copy_(numbers[active])
            return
        self._pattern, self._numbers = (loads, active), numbers[active].to(device)
        self.shares, first = [], 0
        for group in active:
            self.shares.append([])
            for own, pictures in zip(held, group.tolist(), strict=True):
                for rows, count in _spans(pictures):
                    self.shares[-1].append(Share(own, rows, self._numbers[first : first + count]))
                    first += count


def _spans(wanted: Sequence[bool]) -> Iterator[tuple[slice, int]]:
    """Runs of what is wanted, and their lengths; all of it is a slice for any number of pictures."""
    if all(wanted):
        yield slice(None), len(wanted)
        return
    for one, run in groupby(range(len(wanted)), lambda place: wanted[place]):
        places = list(run)
        if one:
            yield slice(places[0], places[-1] + 1), len(places)


class Mixer:
    """Puts adapters beside a model's layers and takes them away again; the modules stay the base's own.

    Args:
        parts: of the model, the UNet and its text encoders.
        slots: where adapters are kept; without one they all stay on the device of the parts.

    Attributes:
        loaded: the adapters that strengths refer to.
        held: their matrices on the device.
        stack: takes the place of what `set` says, in the UNet; None for nothing.
    """

    def __init__(self, parts: Mapping[str, nn.Module], slots: Slots | None = None) -> None:
        self._parts = parts
        unet: Any = parts["unet"]
        self.layout = Layout(len(unet.down_blocks), len(unet.down_blocks[0].resnets))
        anchor = next(iter(unet.parameters()))
        self.slots = slots or Slots(anchor.device, anchor.dtype)
        self.loaded: tuple[AdapterFile, ...] = ()
        self.held: Sequence[Matrices] = ()
        self.stack: Stack | None = None
        self._hooks: dict[Target, Any] = {}
        self._table, self._loads = Table(), 0

    def load(self, adapters: Sequence[AdapterFile]) -> None:
        """Make these the adapters that strengths refer to, in this order; all strengths are 0 until they are set."""
        if [id(one) for one in adapters] == [id(one) for one in self.loaded]:
            return
        self.held = self.slots.take(adapters)
        wanted = {target for adapter in adapters for target in (*adapter.updates, *adapter.shifts)}
        for target in self._hooks.keys() - wanted:
            self._hooks.pop(target).remove()
        for target in wanted - self._hooks.keys():
            layer = self._parts[target.part].get_submodule(target.path)
            beside = self._beside if isinstance(layer, nn.Linear | nn.Conv2d) else self._anew
            self._hooks[target] = layer.register_forward_hook(beside(target), with_kwargs=True)
        self.loaded, self._table, self._loads = tuple(adapters), Table(), self._loads + 1

    def set(self, rows: Numbers, device: torch.device) -> None:
        """Give every picture of the coming batch its strengths, [B][K] numbers or groups of numbers.

        One row counts for a batch of any size.
        """
        groups = self.layout.groups
        filled = [[[one] * groups if isinstance(one, int | float) else list(one) for one in row] for row in rows]
        numbers = torch.tensor(filled, dtype=torch.float32).view(len(rows), len(self.loaded), groups)
        if self.loaded:
            self._table.write(numbers, self.held, device, self._loads)

    def _shares(self, target: Target) -> Callable[[], Sequence[Share]]:
        group = self.layout.group(target.part, target.path)
        return lambda: self._table.shares[group] if self._table.shares else ()

    def _beside(self, target: Target) -> Hook:
        shares = self._shares(target)

        def add(layer: nn.Module, inputs: tuple[Any, ...], more: dict[str, Any], answer: Tensor) -> Tensor:
            if self.stack is not None and target in self.stack.form.targets:
                return self.stack.add(target, layer, inputs[0], answer)
            for share in shares():
                update, shift = share.held.updates.get(target), share.held.shifts.get(target)
                own = answer[share.rows]  # changed in place: nobody else has the layer's answer yet
                if update is not None:
                    _change(layer, update, inputs[0][share.rows], share.scale, own)
                if shift is not None and shift.bias is not None:
                    rows = (share.scale[:, None].to(own.dtype) * shift.bias).expand(len(own), -1)
                    own += beside(rows, own, 1 if isinstance(layer, nn.Conv2d) else -1)
            return answer

        return add

    def _anew(self, target: Target) -> Hook:
        """A norm's answer cannot be added to: what an adapter changes stands within it."""
        shares = self._shares(target)

        def again(layer: nn.Module, inputs: tuple[Any, ...], more: dict[str, Any], answer: Tensor) -> Tensor:
            found = [(one, one.held.shifts[target]) for one in shares() if target in one.held.shifts]
            if not found:
                return answer
            added = [Vectors(len(answer), layer.weight) for _ in range(2)]
            for share, shift in found:
                for vectors, tensor in zip(added, (shift.weight, shift.bias), strict=True):
                    vectors.add(share.rows, share.scale, tensor)
            touched = beside((added[0].touched | added[1].touched)[:, None], answer, 1)
            return torch.where(touched, normed(layer, added[0].sums, added[1].sums, *inputs, **more), answer)

        return again


def _change(layer: nn.Module, update: Update, x: Tensor, scale: Tensor, answer: Tensor) -> None:
    """answer += scale x up(down(x)), x [n, ...]."""
    scale = scale.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
    if update.down.dim() == 4:
        answer += F.conv2d(F.conv2d(x, update.down, None, *geometry(layer)) * scale, update.up)
    elif answer.is_contiguous():
        hidden = F.linear(x, update.down) * scale
        answer.view(-1, answer.shape[-1]).addmm_(hidden.flatten(0, -2), update.up.T)
    else:
        answer += F.linear(F.linear(x, update.down) * scale, update.up)
