"""What the catalogue says of each thing that can be chosen by name: the columns of its tables."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One thing that can be chosen by name.

    Attributes:
        path: `module:attribute` that implements it.
        title: name as people write it.
        note: one line of help.
        reads: settings that count only where a row that reads them is chosen; see `trainer.contract.rules`.
    """

    path: str
    title: str
    note: str
    reads: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class OptimizerRow(Row):
    """An optimiser: our own over an arena, or a class of torch's kind (`trainer.optim.foreign`).

    Attributes:
        graph: what a CUDA graph may hold: the whole step, forward and backward only, or nothing. All step beside the
            graph: they take their rates, and most of them counts or sums, from the host, which a replay would freeze.
        rate: learning rate for `auto`, for a LoRA whose alpha is its rank.
        sensible: effective rates (see `trainer.contract.rates`) on SD 1.5 and SDXL: those below do next to nothing,
            those above are likely to destroy the adapter.
        package: to be installed with pip; "" where it comes with the product.
        whole: elementwise, so that it can be handed a group's matrices as one flat tensor: a few kernels instead of
            some for each matrix.
        one_rate: it finds the rate itself, one for all groups.
        bytes: that it keeps on the device for each trained number: moments, an fp32 gradient where the class wants one.
        passes: arguments that are made of settings of `[optimizer]`, see `PASSED`.
        arguments: over the class's own defaults; `optimizer.arguments` goes over these.
        averages: it keeps an average of the matrices and is asked for it (`train` and `eval` of its class).
        schedule: for `auto`.
    """

    graph: Literal["step", "backward", "none"] = "backward"
    rate: float = 1e-4
    sensible: tuple[float, float] = (1e-5, 1e-3)
    package: str = ""
    whole: bool = False
    one_rate: bool = False
    bytes: int = 16
    passes: tuple[str, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()
    averages: bool = False
    schedule: str = "cosine"


@dataclass(frozen=True)
class AdapterRow(Row):
    """An adapter method.

    Attributes:
        mark: how a tensor's name in a file begins that only this method has; "" for LoRA.
        formula: `module:attribute` of the `Method` that reads such a file.
        unscaled: the layers whose update alpha does not scale, in words after "where"; "" for none.
    """

    mark: str = ""
    formula: str = ""
    unscaled: str = ""


@dataclass(frozen=True)
class SamplerRow(Row):
    """A sampler under A1111's name.

    Attributes:
        options: keyword arguments over the base's scheduler config.
        schedule: A1111's `Schedule type`.
    """

    options: tuple[tuple[str, Any], ...]
    schedule: str


@dataclass(frozen=True)
class FamilyRow(Row):
    """A model family.

    Attributes:
        shelf: folder below `presets/` whose presets fit it.
    """

    shelf: str
