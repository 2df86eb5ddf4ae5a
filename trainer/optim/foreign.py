"""Optimisers of torch's kind over an arena: those of other packages, and any class of the user's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.adapters.arena import Arena
from trainer.optim.saved import pack, unpack


class Foreign:
    """A `torch.optim.Optimizer` that steps the fp32 master; see `trainer.protocols.Optimizer`.

    Args:
        arena: is stepped.
        kind: the class.
        arguments: for it, beside the parameters. Its rate is given anew with every step.
        whole: hand it each group as one flat tensor, not matrix by matrix. The room between matrices is zero, gets no
            gradient, and stays zero under any elementwise rule.
        finds: it finds the learning rate itself.
    """

    def __init__(
        self, arena: Arena, kind: type[torch.optim.Optimizer], arguments: Mapping[str, Any], whole: bool, finds: bool
    ) -> None:
        self.arena, self._finds = arena, finds
        # A gradient must be of its parameter's type.
        self._grad = arena.grad if arena.grad.dtype == torch.float32 else torch.zeros_like(arena.master)
        self._names: dict[str, Tensor] = {}
        groups = []
        for group, part in arena.groups.items():
            members = [group] if whole else arena.members[group]
            views = [(arena.master[part], self._grad[part])] if whole else [self._views(name) for name in members]
            parameters = [_parameter(*pair) for pair in views]
            self._names |= dict(zip(members, parameters, strict=True))
            groups.append({"params": parameters})
        self.optimizer = kind(groups, **arguments)
        self._train()

    def _views(self, name: str) -> tuple[Tensor, Tensor]:
        return self.arena.view(self.arena.master, name), self.arena.view(self._grad, name)

    def _train(self) -> None:
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()

    def step(self, rates: Mapping[str, float]) -> None:
        """See `trainer.protocols.Optimizer`."""
        if self._grad is not self.arena.grad:
            self._grad.copy_(self.arena.grad)
        for name, group in zip(self.arena.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = rates.get(name, 0.0)
        self.optimizer.step()
        self.arena.publish()

    @torch.no_grad()
    def settle(self, groups: Sequence[str]) -> None:
        """See `trainer.protocols.Optimizer`.

        A rate of zero would not do: some carry a momentum or an average on. Without a gradient every optimiser passes a
        parameter by.
        """
        shown = self.shown()
        for name, group in zip(self.arena.groups, self.optimizer.param_groups, strict=True):
            if name in groups:
                if shown is not None:
                    self.arena.master[self.arena.groups[name]] = shown[self.arena.groups[name]]
                for parameter in group["params"]:
                    parameter.grad = None
                    self.optimizer.state.pop(parameter, None)
        self.arena.publish()

    @torch.no_grad()
    def shown(self) -> Tensor | None:
        """See `trainer.protocols.Optimizer`.

        Those that average have `eval` and `train`, which go to the average and back; the way back is rounded, so the
        master is kept and put back.
        """
        if not (hasattr(self.optimizer, "eval") and hasattr(self.optimizer, "train")):
            return None
        kept = self.arena.master.clone()
        self.optimizer.eval()
        shown = self.arena.master.clone()
        self.optimizer.train()
        self.arena.master.copy_(kept)
        return shown

    def found(self) -> float:
        """See `trainer.protocols.Optimizer`. D-Adaptation and Prodigy keep it as `d` in their groups."""
        return float(self.optimizer.param_groups[0]["d"]) if self._finds else 1.0

    def state(self) -> dict[str, Tensor]:
        """See `trainer.protocols.Optimizer`."""
        return pack(self.optimizer, self._names)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `trainer.protocols.Optimizer`."""
        unpack(state, self.optimizer, self._names, self.arena.master.device)


def _parameter(values: Tensor, grad: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(values)
    parameter.grad = grad
    return parameter
