"""Beside the file of a run of another method: the same as a plain LoRA, for programs that read the method otherwise.

Clients disagree on DoRA, LoHa, LoKr and OFT, or cannot read them; all of them read a LoRA alike.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.adapters.merged import MergedLayer
from trainer.contract.config import ExportSection
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.export.kohya import Layout
from trainer.export.resizing import plain
from trainer.export.written import Plan, Told, Written, each, write
from trainer.formats.clients.report import PROOF_SUFFIX
from trainer.formats.derived import Origin, derived
from trainer.formats.header import body_sha256, read_header
from trainer.formats.inspect import inspect
from trainer.formats.kohya import module_names

DOUBTFUL = 0.05  # relative error that is told


def write_plain(path: Path, adapter: Adapter, layout: Layout, options: ExportSection, told: Told) -> list[str]:
    """Write the plain LoRA of a run's file beside it, and what was measured of it, layer by layer.

    Args:
        path: the run's file; the other is called `NAME-lora.safetensors`.
        adapter: as the file has it; of a plain LoRA nothing is written.
        layout: module paths of every part.
        options: whether, in which number type, and of which rank.
        told: hears how far it is.

    Returns:
        What a person should know. A run whose own file is there does not fail for this one.
    """
    out = path.with_name(f"{path.stem}-lora.safetensors")
    out.unlink(missing_ok=True)
    layers = adapter.layers.values()
    if not options.plain or not all(isinstance(layer, MergedLayer) for layer in layers):
        return []
    try:
        done = _write(path, out, adapter, layout, options, told)
    except UserError as error:
        return [f"no plain LoRA was made of it: {error.problem}"]
    content = {"hash": body_sha256(out), "plain": done.as_dict() | {"file": out.name}}
    write_atomic(out.with_suffix(PROOF_SUFFIX), json.dumps(content, indent=2))
    return list(_lines(done, out.name))


def _write(path: Path, out: Path, adapter: Adapter, layout: Layout, options: ExportSection, told: Told) -> Written:
    names = module_names(layout)
    targets = {names[target.part, target.path]: target for target in adapter.layers}
    trained = adapter.tensors()

    def change(name: str) -> Tensor:
        layer: Any = adapter.layers[targets[name]]
        held = {key: tensor for key, tensor in trained[targets[name]].items() if key != "alpha"}
        found: Tensor = layer.method.update(layer.weight.whole().float(), held, layer.alpha).float()
        return found

    rank = None if options.plain_rank == "auto" else options.plain_rank
    made = each(targets, lambda name: plain(change(name), rank), "making a plain LoRA", told)
    facts = inspect(path)
    largest = max(len(update.down) for update in made.values())
    metadata = derived([Origin(facts, read_header(path).metadata)], f"plain LoRA of a {facts.method}", out, largest)
    return write(Plan(out, metadata, options.dtype, even=rank is not None), made, change, told)


def _lines(done: Written, name: str) -> Iterator[str]:
    if done.largest_error > DOUBTFUL:
        yield (
            f"{name}, the plain LoRA of it, is {done.error:.1%} off (up to {done.largest_error:.0%} of a layer's "
            f"change, {done.at}): use the run's own file where the program knows its method, or a higher "
            "export.plain_rank"
        )
