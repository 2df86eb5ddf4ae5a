"""What a run will take, told from the names and shapes of its base's layers: nothing is loaded, and torch not needed.

The trainer goes by the same figures where it chooses how lean it has to be; it knows each layer, here some are counted
together. So it is an estimate, and meant to be rather too high than too low.
"""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

from trainer.contract.catalog import optimizer_row
from trainer.contract.config import RunConfig
from trainer.contract.ladder import RUNGS, choices
from trainer.formats.base_layers import folder_layers, practice_layers, published_layers
from trainer.formats.kinds import Shape
from trainer.formats.kohya import Module
from trainer.formats.sizes import chosen, parameters, sizes_of
from trainer.formats.targets import STORED, TEXT_TARGETS, UNET_TARGETS, Target, ends_with

RESERVE = 600 * 2**20  # bytes for workspaces, widened weights, and what the allocator cannot use
FP32 = 4  # bytes
# Rung of the memory ladder -> KiB that the UNet keeps for the backward pass, for each latent pixel. From whole runs on
# an H200 in bf16, rank 16; `half` lies between them.
KEPT = {"none": 210, "half": 133, "full": 56}
KEPT_XL = {"none": 340, "half": 192, "full": 44}
WIDE = 320  # channels of the first block of the UNets that this was measured on
BASE_BYTES = {"int8": 1.0, "nf4": 0.54, "streamed": 1.0}  # of a weight, with its scales
PLACES = 2  # blocks that are on the device at a time where the weights come and go
FILE_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
NAMES = 330  # bytes of a layer in the header of an adapter file: three tensors with their names
TIMES = {"lora": 1, "dora": 1, "loha": 2}  # numbers of a method for each one of LoRA's; others depend on more


class Needs(NamedTuple):
    """What a run takes.

    Attributes:
        rung: of the memory ladder that fits.
        memory: most bytes on the device.
        fits: whether that is there, as far as can be told.
        trained: numbers that learn.
        file: bytes of the adapter file; 0 where it cannot be told.
    """

    rung: str
    memory: int
    fits: bool
    trained: int
    file: int


def kept_bytes(family: str, share: str, itemsize: int) -> float:
    """What the UNet keeps for the backward pass, for each latent pixel of a batch."""
    return (KEPT_XL if family == "sdxl" else KEPT)[share] * 1024.0 * itemsize / 2


def trained_bytes(config: RunConfig, itemsize: int) -> int:
    """What a trained number takes: fp32 master, working copy and gradient, the optimiser's, the average's."""
    average = FP32 if config.training.ema else 0
    return FP32 + 2 * itemsize + optimizer_row(config.optimizer.name).bytes + average


def layers_of(base: Path | None, family: str, practice: bool) -> Mapping[Module, Shape]:
    """The layers of a base, from its headers; of one that is one file, or not here yet, those of its family.

    Raises:
        UserError: a file of it is not sound.
    """
    if practice:
        return practice_layers()
    return folder_layers(base) if base is not None and base.is_dir() else published_layers(family)


def learning(layers: Mapping[Module, Shape], config: RunConfig) -> dict[Target, Shape]:
    """The layers that get an update, with the shapes of their weights.

    Raises:
        UserError: a pattern fits none.
    """
    options = config.adapter
    there = {Target(*module): shape for module, shape in layers.items() if len(shape) > 1}
    unet = [target for target in there if target.part == "unet" and target.path.startswith(STORED)]
    if options.patterns:
        found = chosen(unet, options.patterns)
    else:
        found = [target for target in unet if ends_with(target.path, UNET_TARGETS[options.targets])]
    if options.text_encoder:
        found += [one for one in there if one.part != "unet" and ends_with(one.path, TEXT_TARGETS)]
    return {target: there[target] for target in found}


def needs_of(layers: Mapping[Module, Shape], config: RunConfig, family: str, pixels: int, free: int | None) -> Needs:
    """What a run takes.

    Args:
        layers: of its base.
        config: of the run.
        family: name in the catalogue.
        pixels: latent pixels of a whole batch.
        free: bytes of the card that it may have; None on a processor, where the first rung is taken.

    Raises:
        UserError: a pattern fits no layer, or no layer is left.
    """
    shapes = learning(layers, config)
    sizes = sizes_of(shapes, config.adapter)
    trained = int(parameters(shapes, sizes) * TIMES.get(config.adapter.method, 1))
    itemsize = FP32 if free is None else FP32 // 2
    fixed = trained * trained_bytes(config, itemsize) + RESERVE + _encoders(layers, config, itemsize)
    names = choices(config.engine)
    most = {name: int(fixed + _unet(layers, name, itemsize) + _kept(layers, family, name, itemsize) * pixels)
            for name in names}  # fmt: skip
    rung = next((name for name in names if free is None or most[name] <= free), names[-1])
    told = config.adapter.method in TIMES
    file = trained * FILE_BYTES[config.export.dtype] + NAMES * len(sizes) if told else 0
    return Needs(rung, most[rung], free is None or most[rung] <= free, trained, file)


def _encoders(layers: Mapping[Module, Shape], config: RunConfig, itemsize: int) -> int:
    """Bytes of text encoders that stay on the device because they learn."""
    if not config.adapter.text_encoder:
        return 0
    return itemsize * sum(prod(shape) for (part, _), shape in layers.items() if part != "unet")


def _unet(layers: Mapping[Module, Shape], rung: str, itemsize: int) -> float:
    """Bytes of the frozen UNet; where it comes and goes, of the blocks that are there at a time."""
    unet = {path: prod(shape) for (part, path), shape in layers.items() if part == "unet"}
    base = RUNGS[rung].base
    stored = sum(size for path, size in unet.items() if path.startswith(STORED))
    rest = (sum(unet.values()) - stored) * itemsize
    if base != "streamed":
        return rest + stored * BASE_BYTES.get(base, itemsize)
    blocks = Counter[str]()
    for path, size in unet.items():
        blocks[".".join(path.split(".")[:4])] += size if path.startswith(STORED) else 0
    return rest + PLACES * max(blocks.values()) * BASE_BYTES[base]


def _kept(layers: Mapping[Module, Shape], family: str, rung: str, itemsize: int) -> float:
    """As `kept_bytes`, less for a narrower UNet."""
    narrow = min(1.0, layers.get(("unet", "conv_in"), (WIDE,))[0] / WIDE)
    return kept_bytes(family, RUNGS[rung].share, itemsize) * narrow
