"""Adapter files of every kind, as the exporter of the product writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clients.models import Base, layers
from trainer.contract.catalog import ADAPTERS, resolve
from trainer.contract.config import AdapterSection, ExportSection
from trainer.export.kohya import export_adapter
from trainer.export.plain import write_plain
from trainer.families.sd import KINDS, STORED, TEXT_TARGETS, UNET_TARGETS
from trainer.formats.metadata import AdapterFacts
from trainer.formats.sizes import is_spatial, sizes_of
from trainer.protocols import Target

SPREAD = 0.1  # standard deviation of what is added to a method's start


@dataclass(frozen=True, eq=False)
class Variant:
    """A kind of file.

    Attributes:
        name: as the table has it.
        options: of the adapter, beside rank 4 and alpha 2.
        dtype: of the file.
        full: whether it is also written in full size.
        plain: the LoRA beside the file of another method instead of that file.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "fp16"
    full: bool = False
    plain: bool = False

    @property
    def section(self) -> AdapterSection:
        """The options as the product has them."""
        return AdapterSection(**{"rank": 4, "alpha": 2.0, **self.options})


_TEXT = {"text_encoder": True}
_ALL = {"targets": "everything", "text_encoder": True}
_BLOCKS = {"conv_rank": 3, "ranks": {"mid_block.*": 2, "*.attn2.*": 6}, "alphas": {"mid_block.*": 1.0}}
METHODS = ("dora", "loha", "lokr", "oft")
VARIANTS = (
    Variant("unet"),
    Variant("unet+te", _TEXT, full=True),
    Variant("unet+te bf16", _TEXT, "bf16"),
    Variant("unet+te fp32", _TEXT, "fp32"),
    Variant("convolutions", _ALL, full=True),
    Variant("ranks by block", _ALL | _BLOCKS),
    Variant("rslora", _TEXT | {"rslora": True}),
    *(Variant(method, _ALL | {"method": method}) for method in METHODS),
    *(Variant(f"{method} as LoRA", _ALL | {"method": method}, plain=True) for method in METHODS),
)


def cases(families: tuple[str, ...]) -> list[tuple[Base, Variant]]:
    """Everything that is written, the full sizes last."""
    narrow = [(Base(family, True), variant) for family in families for variant in VARIANTS]
    return narrow + [(Base(family, False), variant) for family in families for variant in VARIANTS if variant.full]


def write(base: Base, variant: Variant, path: Path) -> None:
    """Write a file of random numbers: a narrow one by the method itself, a full-size one by the sizes it would have."""
    parts, options = base.parts(), variant.section
    layout = {part: [name for name, _ in root.named_modules()] for part, root in parts.items()}
    targets = _targets(parts, options)
    if base.narrow:
        row = ADAPTERS[options.method]
        adapter = resolve(row)(targets, parts, options, 0)
        drawn = torch.randn(adapter.arena.master.shape, generator=torch.Generator().manual_seed(1))
        adapter.arena.master.add_(drawn, alpha=SPREAD)
        tensors = adapter.tensors()
    else:
        tensors = _drawn(targets, parts, options)
    export_adapter(path, tensors, layout, facts(base.family, base.name, options), variant.dtype)
    if variant.plain:
        write_plain(path, adapter, layout, ExportSection(), lambda *_: None)
        path.with_name(f"{path.stem}-lora.safetensors").replace(path)


def _targets(parts: Mapping[str, nn.Module], options: AdapterSection) -> list[Target]:
    endings = dict.fromkeys(parts, TEXT_TARGETS) | {"unet": UNET_TARGETS[options.targets]}
    return [
        Target(part, path)
        for part, root in parts.items()
        if part == "unet" or options.text_encoder
        for path, _ in layers(root)
        if path.endswith(tuple(f".{ending}" for ending in endings[part]))
        and (part != "unet" or path.startswith(STORED))
    ]


def _drawn(
    targets: list[Target], parts: Mapping[str, nn.Module], options: AdapterSection
) -> dict[Target, dict[str, Tensor]]:
    shapes = {target: parts[target.part].get_submodule(target.path).weight.shape for target in targets}
    generator, drawn = torch.Generator().manual_seed(1), {}
    for target, size in sizes_of(shapes, options).items():
        outer, inner, *kernel = shapes[target]
        down = (size.rank, inner, *(kernel if is_spatial(shapes[target]) else [1] * len(kernel)))
        drawn[target] = {
            "lora_down.weight": torch.randn(down, generator=generator) * SPREAD,
            "lora_up.weight": torch.randn(outer, size.rank, *[1] * len(kernel), generator=generator) * SPREAD,
            "alpha": torch.tensor(size.alpha),
        }
    return drawn


def facts(family: str, base: str, options: AdapterSection) -> AdapterFacts:
    """What such a file says of itself."""
    return AdapterFacts(
        name="checked", base_version=KINDS[family].versions["epsilon"], base_name=base, rank=options.rank,
        alpha=options.scale * options.rank, method=options.method, has_text_encoder=options.text_encoder, pictures=1,
        resolution=512, steps=1, epochs=1, batch_size=1, learning_rate=1e-4, optimizer="adamw", schedule="cosine",
        seed=0, recipe="",
    )  # fmt: skip
