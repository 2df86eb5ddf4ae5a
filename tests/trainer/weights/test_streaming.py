"""The ring of two places, on the CPU: the same path without the streams."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.weights.layers import layers, store
from trainer.weights.streaming import PLACES, Ring, stream

CPU = (torch.device("cpu"), torch.float32, torch.contiguous_format)


class Block(nn.Module):
    """Its last operation needs a weight and nothing that is saved."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8 + index), nn.Linear(8 + index, 8, bias=index % 2 == 0)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def model(count: int) -> nn.ModuleDict:
    torch.manual_seed(4)
    return nn.ModuleDict({"blocks": nn.ModuleList(Block(index) for index in range(count))}).requires_grad_(False)


def blocks_of(found: nn.ModuleDict) -> list[tuple[str, nn.Module]]:
    return [(f"blocks.{index}", block) for index, block in enumerate(found["blocks"])]


def passed(found: nn.ModuleDict, again: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(answer, gradient of the input) of all blocks, one after the other."""
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(5)).requires_grad_()
    y = x
    for block in found["blocks"]:
        y = checkpoint(block, y, use_reentrant=False) if again else block(y)
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


def both(count: int) -> tuple[nn.ModuleDict, nn.ModuleDict, Ring]:
    resident, streamed = model(count), model(count)
    store(layers(blocks_of(resident)), resident, "int8", *CPU)
    return resident, streamed, stream(streamed, blocks_of(streamed), *CPU)


def test_streamed_blocks_answer_as_resident_ones_bit_for_bit():
    for count in (1, 2, 3, 6):
        resident, streamed, _ = both(count)
        for again in (True, False):  # what computes looks the weight up when it needs it
            for _ in range(2):
                for found, wanted in zip(passed(streamed, again), passed(resident, again), strict=True):
                    assert torch.equal(found, wanted)


def test_a_block_is_fetched_once_on_the_way_there_and_once_on_the_way_back():
    _, streamed, ring = both(6)
    fetched = []
    real = ring._fetch
    ring._fetch = lambda index: (fetched.append(index), real(index))
    passed(streamed, True)
    assert fetched == [0, 1, 2, 3, 4, 5, 3, 2, 1, 0]
    fetched.clear()
    passed(streamed, True)
    assert fetched == [2, 3, 4, 5, 3, 2, 1, 0], "what the last step ended with is what the next one begins with"
    with torch.no_grad():
        fetched.clear()
        for _ in range(2):
            for block in streamed["blocks"]:
                block(torch.zeros(1, 8))
    assert fetched == [2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0], "pictures are drawn forwards only"


def test_no_more_than_two_blocks_are_on_the_device():
    _, streamed, ring = both(6)
    held = {layer.frozen.q.untyped_storage().data_ptr() for block in streamed["blocks"] for layer in block.children()}
    assert len(held) == PLACES == len(ring.places)
    assert len(ring.places[0]) == max(map(len, ring.host)) < sum(map(len, ring.host)) / 2


def test_convolutions_keep_their_memory_format_in_a_place():
    whole = nn.ModuleDict({"block": nn.ModuleDict({"layer": nn.Conv2d(4, 6, 3)})})
    wanted = whole["block"]["layer"].weight.detach().clone()
    place = (torch.device("cpu"), torch.float32, torch.channels_last)
    ring = stream(whole, [("block", whole["block"])], *place)
    ring.enter(0)
    found = whole["block"]["layer"].frozen
    assert found.q.is_contiguous(memory_format=torch.channels_last)
    assert (found.whole() - wanted).abs().max() < wanted.abs().max() / 127
