"""Which pictures of a request are drawn in one batch.

Pictures of a batch share what the sampler is: steps and noise levels. Their adapters, strengths, prompts and guidance
may all differ, since strengths and guidance are tensors and shorter texts are brought to the length of longer ones.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trainer.contract.requests import GenerateRequest

WIDEST = 24  # chunks that texts of different lengths are brought to, at most
MOST = 16  # pictures in a pass: more gain nothing, and the first ones would come late


@dataclass(frozen=True)
class Pass:
    """One batch.

    Attributes:
        places: of its pictures in the request.
        steps, sampler: of all of them.
    """

    places: tuple[int, ...]
    steps: int
    sampler: str

    def halves(self) -> "list[Pass]":
        """The same in two passes."""
        middle = -(-len(self.places) // 2)
        return [replace(self, places=part) for part in (self.places[:middle], self.places[middle:])]


def plan(request: GenerateRequest, chunks: Sequence[int], most: int) -> list[Pass]:
    """Group the pictures of a request into as few passes as may be.

    Args:
        request: what is drawn, all of one size.
        chunks: of each picture's texts, the least number that both can be brought to.
        most: pictures in a pass.

    Returns:
        Passes of about equal size, so that few shapes occur. Those with the first pictures come first.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for place in range(len(request.pictures)):
        groups.setdefault((request.steps_of(place), request.sampler_of(place)), []).append(place)
    passes = [
        Pass(tuple(sorted(part)), steps, sampler)
        for (steps, sampler), places in groups.items()
        for alike in _alike(places, chunks)
        for part in _parts(alike, most)
    ]
    return sorted(passes, key=lambda one: one.places)


def _alike(places: Sequence[int], chunks: Sequence[int]) -> Iterator[list[int]]:
    """Pictures whose texts can be brought to one length, those of equal length side by side."""
    held: list[int] = []
    length = 1
    for place in sorted(places, key=lambda place: chunks[place]):
        if held and math.lcm(length, chunks[place]) > WIDEST:
            yield held
            held, length = [], 1
        held, length = [*held, place], math.lcm(length, chunks[place])
    yield held


def _parts(places: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    count = -(-len(places) // most)
    size = -(-len(places) // count)
    for first in range(0, len(places), size):
        yield places[first : first + size]
