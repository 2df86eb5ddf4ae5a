"""Do the real loaders of other programs take our files? Their own code runs on the CPU, in processes of its own.

    python -m benchmarks.clients --comfyui DIR --sd-scripts DIR --forge DIR --invoke DIR --sdnext DIR --webui DIR

A DIR is a checkout. Files of every kind are written by the exporter for SD 1.5, 2.1 and SDXL, with all of their layers
at a sixteenth of the width, and plain LoRA in full size too. Each client loads each file; what it changes in every
layer is compared with what our preview adds. The largest relative error of a layer's delta may be 1e-5; 1e-2 in A1111,
which makes some products in fp16.

Ends with 1 where a client leaves a name over, misses a layer, puts one elsewhere or computes another delta.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients.files import cases, write
from benchmarks.clients.judge import CLIENTS
from benchmarks.clients.models import FAMILIES, Base
from benchmarks.processes import ROOT, tail

SECONDS = 1800.0
REPOSITORIES = {
    "comfyui": "Comfy-Org/ComfyUI",
    "sd_scripts": "kohya-ss/sd-scripts",
    "webui": "AUTOMATIC1111/stable-diffusion-webui",
    "forge": "lllyasviel/stable-diffusion-webui-forge",
    "invoke": "invoke-ai/InvokeAI",
    "sdnext": "vladmandic/sdnext",
}
_HEAD = ("client", "base", "file", "names", "layers", "left over", "missed or elsewhere", "largest error of a delta")


@dataclass(frozen=True)
class Row:
    """What a client did with one file."""

    client: str
    base: str
    variant: str
    found: dict[str, Any]
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether everything was applied, as ours."""
        lists = ("left_over", "missed", "elsewhere")
        return (
            "error" not in self.found and not any(map(self.found.get, lists)) and self.found["worst"] <= self.tolerance
        )

    def cells(self) -> list[str]:
        """Its line in the table."""
        found, wrong = self.found, [*self.found.get("missed", ()), *self.found.get("elsewhere", ())]
        if "error" in found:
            return [self.client, self.base, self.variant, str(found.get("keys", "")), "0", "", "", found["error"]]
        left = [_counted(found["left_over"]), _counted(wrong)]
        counts = [str(found["keys"]), str(found["applied"])]
        return [self.client, self.base, self.variant, *counts, *left, f"{found['worst']:.1e}"]


def judged(name: str, checkout: Path, base: Base, files: dict[str, Path], tolerance: float) -> Iterable[Row]:
    """Let a client load files of one base in a process of its own."""
    title, size = CLIENTS[name], "narrow" if base.narrow else "full"
    command = [sys.executable, "-m", "benchmarks.clients.judge", name, str(checkout), base.family, size]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as said:
            done = subprocess.run(
                [*command, *map(str, files.values())], stdout=subprocess.PIPE, stderr=said, cwd=ROOT, check=False,
                timeout=SECONDS,
            )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
        found = {line["file"]: line for line in lines}
        for variant, path in files.items():
            lost = {"error": f"ended with {done.returncode}: {tail(log)}"}
            yield Row(title, base.name, variant, found.get(path.name, lost), tolerance)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown."""
    lines = [_HEAD, ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(given: Sequence[str] | None = None) -> int:
    """Write, load, compare; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, repository in REPOSITORIES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="DIR", help=f"a checkout of {repository}")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this; may be repeated")
    parser.add_argument("--narrow", action="store_true", help="leave out the full sizes, which take minutes")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table here too")
    options = parser.parse_args(given)
    checkouts = {name: getattr(options, name) for name in CLIENTS if getattr(options, name)}
    if not checkouts:
        parser.error("name a checkout, such as --comfyui DIR")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        written = _write(Path(folder), tuple(options.family or FAMILIES), options.narrow)
        for name, checkout in checkouts.items():
            module = importlib.import_module(f"benchmarks.clients.{name}")
            for base, files in written.items():
                wanted = {
                    variant.name: path
                    for variant, path in files.items()
                    if variant.plain or variant.section.method in module.METHODS
                }
                for row in judged(name, checkout.resolve(), base, wanted, module.TOLERANCE):
                    rows.append(row)
                    print(" | ".join(row.cells()), "" if row.good else "| MISS", flush=True)
    print(f"\n{table(rows)}\n\n{sum(row.good for row in rows)} of {len(rows)} as they should be")
    if options.out:
        options.out.write_text(f"{table(rows)}\n", "utf-8")
    return int(not all(row.good for row in rows))


def _write(folder: Path, families: tuple[str, ...], narrow: bool) -> dict[Base, dict[Any, Path]]:
    written: dict[Base, dict[Any, Path]] = {}
    for base, variant in cases(families):
        if narrow and not base.narrow:
            continue
        path = folder / f"{base.name} {variant.name}.safetensors".replace(" ", "-")
        write(base, variant, path)
        written.setdefault(base, {})[variant] = path
    return written


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} ({names[0]})" if names else "0"


if __name__ == "__main__":
    sys.exit(main())
