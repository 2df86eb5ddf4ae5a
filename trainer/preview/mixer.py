"""Any mix of adapters, a strength for every picture of a batch, over base weights that are never touched.

The ranks of all adapters of a layer stand side by side: down [R, I], up [O, R], R the sum of ranks. A picture's
strengths scale the columns, so a new strength is a small write and no merge, and strength 0 adds exact zeros.

Shapes: B batch, K adapters, R summed rank, I and O features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.read import AdapterFile, Update
from trainer.protocols import Target
from trainer.weights.layers import replace


@dataclass
class Strengths:
    """The strength table that every mixed layer reads: rows [B, K]."""

    rows: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


class MixedLayer(nn.Module):
    """A frozen layer plus the updates of several adapters.

    Args:
        base: the frozen layer.
        updates: (index of the adapter, its update), for those that touch this layer.
        strengths: shared by all layers.
    """

    def __init__(
        self, base: nn.Linear | nn.Conv2d, updates: Sequence[tuple[int, Update]], strengths: Strengths
    ) -> None:
        super().__init__()
        self.base, self.strengths = base, strengths
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = torch.cat([update.down for _, update in updates]).to(**like)
        self.up = torch.cat([update.up for _, update in updates], dim=1).to(**like)
        ranks = torch.tensor([update.down.shape[0] for _, update in updates])
        self.columns = torch.tensor([index for index, _ in updates]).repeat_interleave(ranks).to(like["device"])

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer, plus sum over adapters of strength x up(down(x))."""
        base = self.base
        scale = self.strengths.rows[:, self.columns].to(x.dtype)  # [B, R]
        if isinstance(base, nn.Conv2d):
            hidden = F.conv2d(x, self.down, None, base.stride, base.padding, base.dilation)
            return base(x) + F.conv2d(hidden * scale[:, :, None, None], self.up)
        hidden = F.linear(x, self.down)
        return base(x) + F.linear(hidden * scale.view(len(scale), *[1] * (x.dim() - 2), -1), self.up)


class Mixer:
    """Puts adapters into a model and takes them out again; the base's modules are put back as they were."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self._parts = parts
        self._replaced: dict[Target, nn.Linear | nn.Conv2d] = {}
        self.strengths = Strengths()
        self.loaded: tuple[AdapterFile, ...] = ()

    def load(self, adapters: Sequence[AdapterFile]) -> None:
        """Make these the adapters that strengths refer to, in this order."""
        if tuple(adapters) == self.loaded:
            return
        for target, base in self._replaced.items():
            replace(self._parts[target.part], target.path, base)
        self._replaced.clear()
        updates: dict[Target, list[tuple[int, Update]]] = {}
        for index, adapter in enumerate(adapters):
            for target, update in adapter.updates.items():
                updates.setdefault(target, []).append((index, update))
        for target, found in updates.items():
            base = self._parts[target.part].get_submodule(target.path)
            replace(self._parts[target.part], target.path, MixedLayer(base, found, self.strengths))
            self._replaced[target] = base
        self.loaded = tuple(adapters)

    def set(self, rows: Sequence[Sequence[float]], device: torch.device) -> None:
        """Give every row of the coming batch its strengths: [B, K]."""
        self.strengths.rows = torch.tensor(rows, dtype=torch.float32, device=device).view(len(rows), len(self.loaded))
