"""What a client made of a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from benchmarks.clients.models import Shape
from trainer.protocols import Target


@dataclass(frozen=True)
class Applied:
    """A layer that a client changes.

    Attributes:
        published: shape of the client's own layer in full size.
        change: weight in float32 -> the weight as the client leaves it at strength 1.
    """

    published: Shape
    change: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loaded:
    """A file as a client took it.

    Attributes:
        layers: what it changes, by the layer's path in diffusers, told by the client's own tables.
        left_over: names in the file that it did not use.
    """

    layers: Mapping[Target, Applied]
    left_over: tuple[str, ...]


class Client(Protocol):
    """A client with one base open.

    Its module says which `METHODS` it reads, and how large the relative error of a delta may be (`TOLERANCE`).
    """

    def load(self, file: Path) -> Loaded:
        """Load a file by the client's own code."""
