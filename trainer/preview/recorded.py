"""A family whose UNet is replayed as CUDA graphs, one for each size, batch and form of adapters.

The recording is that of the training engine (`trainer.graph`). Whatever cannot be recorded runs as it is.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trainer.families.blocks import our_kernels
from trainer.graph import Graphed
from trainer.kernels.reference import REFERENCE
from trainer.preview.mixer import Mixer
from trainer.preview.stacks import Form, Stack, form_of
from trainer.preview.strengths import Row
from trainer.protocols import Family, Text

MOST = 16  # recordings that are kept


class Asked(NamedTuple):
    """What the UNet is asked, see `Family.predict`."""

    noisy: Tensor
    timesteps: Tensor
    hidden: Tensor
    pooled: Tensor
    sizes: Tensor


class Replay(Protocol):
    """Runs a function of a batch, recorded or not: see `trainer.graph.Graphed`."""

    def __call__(self, batch: Asked, kind: object = None) -> Tensor: ...  # noqa: D102
    def forget(self) -> None: ...  # noqa: D102


def graphs(function: Callable[[Asked], Tensor]) -> Replay:
    """CUDA graphs of a function."""
    return Graphed(function, (), told=lambda text: print(text, file=sys.stderr))  # noqa: T201 - the engine's log


class Recorded:
    """Stands for a family where pictures are drawn; all but `predict` is the family's own.

    Args:
        family: is asked.
        mixer: holds the adapters.
        replay: makes what records and replays.
    """

    def __init__(
        self, family: Family, mixer: Mixer, replay: Callable[[Callable[[Asked], Tensor]], Replay] = graphs
    ) -> None:
        self._family, self._mixer = family, mixer
        self._stacks: dict[Form, Stack] = {}
        self._made: set[object] = set()
        self._kind: Form | None = None
        self._replay = replay(self._run)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def take(self, rows: Sequence[Row]) -> bool:
        """Give the rows of the coming batches their strengths, [B][K][G]; False where they are not for recordings."""
        mixer = self._mixer
        places = [place for place in range(len(mixer.loaded)) if any(any(row[place][1:]) for row in rows)]
        used = [mixer.held[place] for place in places]
        form = form_of(used) if used else None
        if used and form is None:
            self._kind = mixer.stack = None
            return False
        mixer.set([[0.0] * len(mixer.loaded)], self._family.engine.device)
        self._kind, mixer.stack = form, None
        if form is not None:
            mixer.stack = self._stack(form)
            mixer.stack.write(used, [tuple(row[place] for place in places) for row in rows])
        return True

    def leave(self) -> None:
        """From now on adapters are computed one by one again."""
        self._kind = self._mixer.stack = None

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Text, sizes: Tensor) -> Tensor:
        """See `Family`. The answer is overwritten by the next one."""
        batch = Asked(noisy, timesteps.float(), text.hidden, text.pooled, sizes.contiguous())
        kind = self._kind, tuple(tensor.shape for tensor in batch)
        if kind not in self._made and len(self._made) >= MOST:
            self.forget()
        self._made.add(kind)
        return self._replay(batch, self._kind)

    def forget(self) -> None:
        """Give up all recordings; the matrices in use stay."""
        self._replay.forget()
        self._made.clear()
        self._stacks = {form: stack for form, stack in self._stacks.items() if form == self._kind}

    def _run(self, batch: Asked) -> Tensor:
        return self._family.predict(batch.noisy, batch.timesteps, Text(batch.hidden, batch.pooled), batch.sizes)

    def _stack(self, form: Form) -> Stack:
        if form not in self._stacks:
            layout, parts = self._mixer.layout, self._family.parts
            weights = {target: parts[target.part].get_submodule(target.path).weight for target in form.targets}
            groups = {target: layout.group(target.part, target.path) for target in form.targets}
            kernels = our_kernels() if self._family.engine.kernels == "triton" else REFERENCE
            self._stacks[form] = Stack(form, weights, groups, layout.groups, kernels)
        return self._stacks[form]


def recordable(device: torch.device) -> bool:
    """Whether CUDA graphs can be recorded here."""
    return device.type == "cuda" and torch.cuda.is_available() and torch.version.cuda is not None
