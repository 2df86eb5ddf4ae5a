"""Does diffusers draw the picture of our preview with our file? With its version here, and with another one's Python.

    python -m benchmarks.clients.pictures [--python OTHER/bin/python] [--family sd1] [--kind KIND]

The practice base, and tiny SD 1.x, 2.x and SDXL of random weights; adapters of random numbers with a plain effect, on
text encoder and UNet, of several kinds, at a strength of 0.8. Ends with 1 where a layer is missing, or a value of a
picture is more than one step of 255 away.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.clients.draw import GUIDANCE, NEGATIVE, PROMPT, SEED, STEPS
from benchmarks.clients.files import facts
from benchmarks.clients.models import FAMILIES
from benchmarks.processes import ROOT
from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection, ModelSection
from trainer.contract.home import demo_folder
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine
from trainer.export.kohya import export_adapter
from trainer.families.locate import load_family
from trainer.preview.answer import answer
from trainer.preview.engine import PreviewEngine, Watcher

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
STRENGTH = 0.8
CLOSE = 1.0  # of 255
KINDS: Mapping[str, Mapping[str, Any]] = {
    "UNet": {},
    "text encoder": {"text_encoder": True},
    "rsLoRA": {"text_encoder": True, "rslora": True},
    "convolutions": {"text_encoder": True, "targets": "everything", "conv_rank": 3},
    "ranks by block": {
        "text_encoder": True, "targets": "everything", "conv_rank": 3, "text_encoder_rank": 3,
        "ranks": {"mid_block.*": 2, "*.attn2.*": 6, "*.mlp.*": 5}, "alphas": {"mid_block.*": 1.0},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A base and how large the random numbers of its adapter are."""

    name: str
    base: Path
    family: str
    size: float


def bases(work: Path) -> Iterator[Case]:
    """Write the tiny ones, readable for every version of transformers."""
    yield Case("practice base", demo_folder() / "base", "sd1", 0.06)
    yield Case("tiny SD 1.x", _prefixed(make_tiny_sd(work / "sd1")), "sd1", 0.3)
    yield Case("tiny SD 2.x", _prefixed(make_tiny_sd(work / "sd2", linear=True)), "sd2", 0.3)
    yield Case("tiny SDXL", _prefixed(make_tiny_sdxl(work / "sdxl")), "sdxl", 0.3)


def write(case: Case, options: AdapterSection, path: Path) -> int:
    """Write an adapter of random numbers; return its layers."""
    family = load_family(ModelSection(base=str(case.base)), ENGINE)
    adapter = attach(family.targets(options.targets, options.text_encoder), family.parts, options, seed=0)
    adapter.arena.master.normal_(std=case.size, generator=torch.Generator().manual_seed(1))
    export_adapter(path, adapter.tensors(), family.layout(), facts(case.family, case.name, options), "fp16")
    return len(adapter.layers)


def ours(case: Case, file: Path, out: Path) -> np.ndarray:
    """The picture of our preview."""
    request = GenerateRequest(
        id="p", base=str(case.base), adapters=(str(file),), steps=STEPS, guidance=GUIDANCE, out=str(out),
        pictures=(Picture(prompt=PROMPT, negative=NEGATIVE, seed=SEED, strengths=(STRENGTH,)),),
    )  # fmt: skip
    engine = PreviewEngine(ModelSection(base=str(case.base)), ENGINE)
    (path,), _ = answer(engine, request, Watcher())
    return np.asarray(Image.open(path), dtype=np.float32)


def theirs(python: str, case: Case, file: Path | None, out: Path) -> tuple[np.ndarray, dict[str, object]]:
    """The picture of diffusers, and what it said."""
    command = [python, str(ROOT / "benchmarks" / "clients" / "draw.py"), str(case.base), str(file or "-")]
    done = subprocess.run([*command, str(STRENGTH), str(out)], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return np.load(out), json.loads(done.stdout.splitlines()[-1])


def main(given: Sequence[str] | None = None) -> int:
    """Draw and compare; 1 where pictures differ or layers are missing."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.clients.pictures", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--python", action="append", default=[], help="of a place with another diffusers; may repeat")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only these bases; may be repeated")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this; may be repeated")
    options, bad = parser.parse_args(given), 0
    pythons = [sys.executable, *options.python]
    print("| base | kind | drawn by | layers | mean effect of the adapter | mean difference | largest difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for case in (one for one in bases(work) if one.family in (options.family or FAMILIES)):
            bare = {python: theirs(python, case, None, work / "bare.npy")[0] for python in pythons}
            for kind in options.kind or KINDS:
                file = work / f"{case.family}-{kind}.safetensors".replace(" ", "-")
                count = write(case, AdapterSection(rank=4, alpha=2.0, **KINDS[kind]), file)
                mine = ours(case, file, work / file.stem)
                for python in pythons:
                    drawn, said = theirs(python, case, file, work / "drawn.npy")
                    effect, away = np.abs(drawn - bare[python]).mean(), np.abs(drawn - mine)
                    bad += not (away.max() <= CLOSE and said["layers"] == count and effect > CLOSE)
                    cells = (case.name, kind, said["versions"], f"{said['layers']} of {count}", f"{effect:.1f}")
                    print(f"| {' | '.join(map(str, cells))} | {away.mean():.4f} | {away.max():.0f} |", flush=True)
    return int(bad > 0)


def _prefixed(base: Path) -> Path:
    """Name a text encoder's tensors as all published files do; transformers 4 finds no others."""
    for path in base.glob("text_encoder*/model.safetensors"):
        tensors: dict[str, Tensor] = load_file(path)
        bare = ("text_model.", "text_projection")
        renamed = {name if name.startswith(bare) else f"text_model.{name}": one for name, one in tensors.items()}
        save_file(renamed, path, {"format": "pt"})
    return base


if __name__ == "__main__":
    sys.exit(main())
