"""Methods whose update is made as a whole matrix before it is multiplied: everything but plain LoRA.

Such a method is a start and a formula over named tensors, and its formula is LyCORIS'. The update is a product of its
own beside the base's: added to a weight of bf16 first, most of it would be rounded away, and the base may be stored in
any way. It is made again in the backward pass, so that no matrix of a layer's size is kept.

Shapes: I input features, O output features, k the sides of a convolution's kernel.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.adapters.adapter import Adapter
from trainer.adapters.arena import Arena, Slot
from trainer.adapters.dropout import Dropout
from trainer.adapters.lora import Layer, geometry
from trainer.adapters.packed import per_sample
from trainer.contract.config import AdapterSection
from trainer.formats.sizes import Size, sizes_of
from trainer.protocols import Target
from trainer.weights.layers import frozen, replace
from trainer.weights.plain import Weight

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Method:
    """An adapter method.

    Attributes:
        start: (shape of the weight, size, options) -> tensors with which the update is zero. They may be drawn from
            torch's own generator, which is seeded for it.
        update: (the base's weight [O, I, k...], tensors as in a file, alpha) -> what is added to the weight at strength
            1, of its shape.
        trained: (the base's weight, tensors as they are trained) -> as a file has them.
        restored: the same the other way.
        alpha: alpha of a file from the size.
    """

    start: Callable[[torch.Size, Size, AdapterSection], dict[str, Tensor]]
    update: Callable[[Tensor, Tensors, float], Tensor]
    trained: Callable[[Tensor, Tensors], dict[str, Tensor]] = lambda _, tensors: dict(tensors)
    restored: Callable[[Tensor, Tensors], dict[str, Tensor]] = lambda _, tensors: dict(tensors)
    alpha: Callable[[Size], float] = lambda size: size.alpha


class MergedLayer(nn.Module):
    """A frozen layer with a trained update beside it.

    Attributes:
        base: the frozen layer.
        names: of what is trained.
        off: whether it answers as the frozen layer alone, see `Adapter.off`.
        strengths: a factor for each sample of a batch, see `Adapter.faded`.
    """

    off = False
    strengths: Tensor | None = None

    def __init__(self, base: Layer, tensors: Tensors, method: Method, alpha: float, dropout: Dropout) -> None:
        super().__init__()
        self.base, self.method, self.alpha, self.dropout = base, method, alpha, dropout
        self.names = tuple(tensors)
        self._tensors = nn.ParameterList(tensors.values())

    @property
    def weight(self) -> Weight:
        """What the base multiplies by."""
        return frozen(self.base)

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer, plus the update's product."""
        answer = self.base(x)
        if self.off:
            return answer
        beside = checkpoint(self._beside, x, *self._tensors, use_reentrant=False, preserve_rng_state=False)
        if self.strengths is not None:
            return answer + beside * per_sample(self.strengths, beside)
        mask = self.dropout.mask(self, x, (1, 1, 1))
        return answer + (beside if mask is None else beside * mask[0, 0])

    def _beside(self, x: Tensor, *tensors: Tensor) -> Tensor:
        weight = self.weight.whole()
        held = self.method.trained(weight, dict(zip(self.names, tensors, strict=True)))
        update = self.method.update(weight, held, self.alpha).to(x.dtype)
        return F.conv2d(x, update, None, *geometry(self.base)) if update.dim() == 4 else F.linear(x, update)


def attach(
    method: Method, targets: Iterable[Target], parts: Mapping[str, nn.Module], options: AdapterSection, seed: int
) -> Adapter:
    """Put a layer of a method in the place of every target; for arguments and errors see `trainer.adapters.lora`."""
    found = {target: parts[target.part].get_submodule(target.path) for target in targets}
    sizes = sizes_of({target: frozen(base).shape for target, base in found.items()}, options)
    anchor = frozen(next(iter(found.values())))
    starts = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for target, size in sizes.items():
            starts[target] = method.start(frozen(found[target]).shape, size, options)
    slots = [
        Slot(f"{target}.{name}", f"{target.part}.tensors", tuple(tensor.shape))
        for target, tensors in starts.items()
        for name, tensor in tensors.items()
    ]
    arena = Arena(slots, anchor.device, anchor.dtype)
    dropout, layers = Dropout.of(options, anchor.device), {}
    for target, tensors in starts.items():
        for name, tensor in tensors.items():
            arena.view(arena.master, f"{target}.{name}").copy_(tensor)
        held = {name: arena.parameters[f"{target}.{name}"] for name in tensors}
        layers[target] = MergedLayer(found[target], held, method, method.alpha(sizes[target]), dropout)
        replace(parts[target.part], target.path, layers[target])
    arena.publish()
    return Adapter(arena, layers, sizes, dropout, file_tensors)


def file_tensors(adapter: Adapter, target: Target) -> dict[str, Tensor]:
    """See `Adapter.tensors`."""
    layer = adapter.layers[target]
    held = {name: adapter.view(f"{target}.{name}") for name in layer.names}
    return layer.method.trained(layer.weight.whole().float(), held) | {"alpha": torch.tensor(layer.alpha)}
