"""Frozen weights in host memory, fetched block by block into a ring of two places on the device.

While a block is computed, the next one is fetched. A block always has the same place, so what computes with its weights
never learns that they move; neighbours never share one. The backward pass visits the blocks in the reverse order.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainer.weights.int8 import Int8
from trainer.weights.layers import FrozenLayer, layers, store

ALIGN = 256  # bytes: kernels read wide words from the start of a tensor
PLACES = 2


class Ring:
    """Blocks' weights on the host, and the two places on the device.

    Args:
        host: bytes of every block, in the order in which they are computed; pinned where the device is a GPU.
        device: where the places are.
    """

    def __init__(self, host: Sequence[Tensor], device: torch.device) -> None:
        self.host = host
        self.places = [torch.empty(max(map(len, host)), dtype=torch.uint8, device=device) for _ in range(PLACES)]
        self._held: list[int | None] = [None] * PLACES
        self._last = -1
        gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if gpu else None
        self._arrived = [torch.cuda.Event() for _ in range(PLACES)] if gpu else []

    def enter(self, index: int) -> None:
        """Have a block's weights in its place before anything that is started from now on, and fetch its neighbour."""
        if self._held[index % PLACES] != index:
            self._fetch(index)
        if self._stream is not None:
            torch.cuda.current_stream().wait_event(self._arrived[index % PLACES])
        if index != self._last:  # a block is entered twice when it is computed again
            after = index + (1 if index > self._last else -1)
            self._last = index
            self._prefetch(index, after)

    def _prefetch(self, index: int, after: int) -> None:
        count = len(self.host)
        if after < 0:  # the end of a backward pass
            after = 1
        elif after >= count:  # the end of a forward pass: a backward pass follows, or another picture of a sample
            after = count - 2 if torch.is_grad_enabled() else 0
        if 0 <= after < count and after % PLACES != index % PLACES and self._held[after % PLACES] != after:
            self._fetch(after)

    def _fetch(self, index: int) -> None:
        place, source = index % PLACES, self.host[index]
        self._held[place] = index
        target = self.places[place][: len(source)]
        if self._stream is None:
            target.copy_(source)
            return
        self._stream.wait_stream(torch.cuda.current_stream())  # what computes with the place's old weights has begun
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            self._arrived[place].record()


def stream(
    model: nn.Module,
    blocks: Sequence[tuple[str, nn.Module]],
    device: torch.device,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> Ring:
    """Store blocks of a model as int8 on the host, and have them fetched when they are computed.

    Args:
        model: in which the blocks' layers are replaced.
        blocks: (path, block), in the order in which they are computed, none inside another.
        device: where they are computed.
        dtype: working type.
        memory_format: of convolutions.
    """
    host, held = [], []
    for path, block in blocks:
        store(layers([(path, block)]), model, "streamed", device, dtype, memory_format)
        found = [layer for layer in block.modules() if isinstance(layer, FrozenLayer)]
        host.append(_pack([layer.frozen for layer in found], device.type == "cuda"))
        held.append(found)
        _place(found, host[-1])  # what was made on the device is given up before the next block is
    ring = Ring(host, device)
    for index, ((_, block), found) in enumerate(zip(blocks, held, strict=True)):
        _place(found, ring.places[index % PLACES])
        _watch(block, ring, index)
    return ring


def _tensors(weight: Int8) -> dict[str, Tensor]:
    found = {"q": weight.q, "scale": weight.scale, "bias": weight.bias}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // ALIGN) * ALIGN


def _view(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """A tensor of the sizes, strides and type of another, over some of a flat piece of bytes."""
    piece = flat[start : start + like.numel() * like.element_size()].view(like.dtype)
    return piece.as_strided(like.shape, like.stride())


def _pack(weights: Sequence[Int8], pinned: bool) -> Tensor:
    """All tensors of some weights, one after the other, as bytes in host memory."""
    tensors = [tensor for weight in weights for tensor in _tensors(weight).values()]
    flat = torch.empty(sum(map(_room, tensors)), dtype=torch.uint8, pin_memory=pinned)
    start = 0
    for tensor in tensors:
        _view(flat, start, tensor).copy_(tensor)
        start += _room(tensor)
    return flat


def _place(found: Sequence[FrozenLayer], place: Tensor) -> None:
    """Make layers compute with what lies at a place, in the order of `_pack`."""
    start = 0
    for layer in found:
        moved = {}
        for name, tensor in _tensors(layer.frozen).items():
            moved[name] = _view(place, start, tensor)
            start += _room(tensor)
        layer.frozen = replace(layer.frozen, **moved)


def _watch(block: nn.Module, ring: Ring, index: int) -> None:
    """Have the block's weights fetched before it is computed, computed again, or passed backwards."""
    block.register_forward_pre_hook(lambda *_: ring.enter(index))

    def after(_: nn.Module, __: object, answer: Tensor) -> None:
        if answer.requires_grad:  # the last operation may need a weight, but nothing that must be computed again
            answer.register_hook(lambda grad: ring.enter(index))

    block.register_forward_hook(after)
