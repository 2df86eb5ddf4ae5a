"""One client and one base in a process of its own: which names it takes, and how far its deltas are from ours.

    python -m benchmarks.clients.judge CLIENT CHECKOUT FAMILY narrow|full FILE...

prints a JSON line for each file.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks.clients.loaded import Client, Loaded
from benchmarks.clients.models import Base, layers, plain, skeleton
from trainer.adapters.read import AdapterFile, read_adapter
from trainer.protocols import Target

CLIENTS = {  # module -> its class
    "comfyui": "ComfyUI", "sd_scripts": "SdScripts", "webui": "WebUI", "forge": "Forge", "invoke": "Invoke",
    "sdnext": "SdNext",
}  # fmt: skip


def open_client(name: str, checkout: Path, base: Base) -> Client:
    """A client with its base."""
    made: Client = getattr(importlib.import_module(f"benchmarks.clients.{name}"), CLIENTS[name])(checkout, base)
    return made


def compare(loaded: Loaded, ours: AdapterFile, base: Base) -> dict[str, Any]:
    """Compare a client's updates with those that our preview draws with."""
    mine = {plain(target): (target, update) for target, update in ours.updates.items()}
    published = {
        plain(Target(part, path)): tuple(layer.weight.shape)
        for part, root in skeleton(base.family).items()
        for path, layer in layers(root)
    }
    worst, at = 0.0, ""
    for target, (own, update) in mine.items():
        if target not in loaded.layers:
            continue
        theirs = loaded.layers[target]
        if theirs.published != published[target]:
            return {"error": f"{target} is of shape {theirs.published} there, {published[target]} here"}
        weight = base.weight(own, published[target])
        wanted = torch.einsum("or,r...->o...", update.up.flatten(1), update.down)
        error = _relative(theirs.change(weight).float() - weight, wanted.view_as(weight))
        if not error <= worst:
            worst, at = error, str(target)
    return {
        "applied": len(loaded.layers.keys() & mine.keys()),
        "elsewhere": sorted(map(str, loaded.layers.keys() - mine.keys())),
        "missed": sorted(map(str, mine.keys() - loaded.layers.keys())),
        "left_over": list(loaded.left_over),
        "worst": worst,
        "at": at,
    }


def _relative(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs - ours).norm() / ours.norm())


def main(given: Sequence[str]) -> int:
    """Judge each file."""
    name, checkout, family, size, *files = given
    base = Base(family, size == "narrow")
    torch.set_grad_enabled(False)
    client = open_client(name, Path(checkout), base)
    parts = base.parts()
    for file in map(Path, files):
        with safe_open(file, "pt") as header:
            keys = len(header.keys())
        row = {"file": file.name, "keys": keys}
        try:
            row |= compare(client.load(file), read_adapter(file, parts), base)
        except Exception as error:  # noqa: BLE001  # whatever the client raises is its answer
            row["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
